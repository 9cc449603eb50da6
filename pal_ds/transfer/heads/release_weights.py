"""Weights of the public releases of G-TAD and BMN, read into this project's heads by their own names.

G-TAD's branches save ``{"epoch", "state_dict"}`` with names under ``module.``; so does JJBOY's BMN, and mmaction2's
saves ``{"meta", "state_dict"}``. A BMN of either release carries its ``sample_mask``, by which the layout of its
maps is told: a file whose layout isn't the head's is refused, since its map convolutions would run over other
neighbours (boundaries come out equal, maps don't). Nothing is converted; ``head.layout`` builds the head that fits.
"""

from __future__ import annotations

import io
import pickle

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.transfer.heads.bmn import BMN, ReleaseLayoutError

FIELD = "head.weights"


def load_release(model: nn.Module, url: str) -> None:
    """Load a release's weights into a head, strictly.

    Args:
        model: a ``GTAD`` or ``BMN`` of the release's sizes; changed in place.
        url: path or URL of a ``.pth``, ``.pth.tar`` or ``.safetensors`` file. Pickled objects in it are refused.

    Raises:
        ConfigError: no such weights: another format, other names or shapes, or a BMN of the other layout.
        StorageError: the file can't be read.
    """
    state = read_release(url)
    if isinstance(model, BMN) and "sample_mask" not in state:
        raise ConfigError(
            FIELD,
            storage.redact(url),
            "holds no sample_mask, so that the layout of its maps can't be told; give the file as released",
        )
    try:
        model.load_state_dict(state, strict=True)
    except ReleaseLayoutError as error:
        raise ConfigError(FIELD, storage.redact(url), str(error)) from None
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise ConfigError(
            FIELD,
            storage.redact(url),
            f"doesn't fit head.name={type(model).__name__.lower()} of these sizes: {lines[0][:300]}",
        ) from None


def read_release(url: str) -> dict[str, Tensor]:
    """Read a release's tensors by their names, without the wrapper's ``module.``.

    Raises:
        ConfigError: it isn't a file of named tensors.
        StorageError: the file can't be read.
    """
    data = storage.read_bytes(url, retry=storage.AT_START)
    try:
        if url.endswith(".safetensors"):
            found = safetensors.torch.load(data)
        else:
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (
        safetensors.SafetensorError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(FIELD, storage.redact(url), f"isn't a file of tensors alone: {reason}") from None
    tensors = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ConfigError(FIELD, storage.redact(url), "holds no tensors by name, nor a state_dict of them")
    return {str(name).removeprefix("module."): value for name, value in tensors.items()}
