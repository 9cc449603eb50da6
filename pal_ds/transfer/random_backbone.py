"""Networks that were never trained, as a baseline: ``random:NAME[@WIDTH][#SEED]``."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from pal_ds.models import build_backbone

PREFIX = "random:"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FORM = re.compile(r"random:(?P<name>\w+)(@(?P<width>[\d.]+))?(#(?P<seed>\d+))?")


def build_random(source: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network with weights drawn from a seed (0 unless given).

    Args:
        source: ``random:NAME[@WIDTH][#SEED]``.

    Returns:
        The module, and the fields of its ``BackboneSpec`` but digest and source: 8 frames of 112 pixels.

    Raises:
        ValueError: another form, an unknown name or a width out of range.
    """
    found = _FORM.fullmatch(source)
    if found is None:
        raise ValueError("write random:NAME, random:NAME@WIDTH or random:NAME@WIDTH#SEED")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(found["seed"] or 0))
        try:
            width = float(found["width"] or 1.0)
            backbone = build_backbone(found["name"], width=width)
        except ValueError as error:
            raise ValueError(f"{error}; write random:NAME or random:NAME@WIDTH") from None
    fields: dict[str, Any] = {
        "backbone": found["name"],
        "width": width,
        "feature_dim": int(backbone.feature_dim),
        "clip_frames": 8,
        "size": 112,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "options": {},
    }
    return backbone, fields
