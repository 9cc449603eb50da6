"""The bare backbone of a run: found, read strictly, and written with plain keys (docs/formats.md, "Checkpoint").

Five kinds of source are understood everywhere a backbone is asked for: a run folder (its newest committed
checkpoint is taken), one checkpoint folder, an exported ``backbone.safetensors``, a folder exported for model hubs,
and ``random:NAME`` for a network that was never trained.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import safetensors.torch
import yaml
from torch import Tensor, nn

from pal_ds import storage
from pal_ds.formats.backbone_file import (
    FORMAT,
    BackboneError,
    BackboneSpec,
    backbone_bytes,
    fields_of_config,
    triple,
    weights_digest,
)
from pal_ds.formats.checkpoint import COMMITTED
from pal_ds.models import build_backbone
from pal_ds.models.pretrained_weights import OBJECTIVE_PREFIX as PREFIX
from pal_ds.transfer.random_backbone import PREFIX as RANDOM
from pal_ds.transfer.random_backbone import build_random

#: Of ``config.json`` in a folder for model hubs.
HUB_FORMAT = "pal-hub/1"
_STEP_FOLDER = re.compile(r"step-(\d{8,})")
_REQUIRED = ("format", "backbone", "width", "feature_dim", "clip_frames", "size", "mean", "std", "options")


def export_backbone(source_url: str, out_path: str) -> BackboneSpec:
    """Write the bare query backbone of ``source_url`` as one safetensors file.

    Args:
        source_url: run folder, checkpoint folder, or an exported file (then it is checked and written anew).
        out_path: path or URL of the file; replaced atomically.

    Returns:
        What was written.

    Raises:
        BackboneError: no committed checkpoint, or weights that don't fit the configuration.
        StorageError: a place can't be read or written.
    """
    backbone, spec = load_backbone(source_url)
    storage.write_bytes(out_path, backbone_bytes(backbone.state_dict(), spec))
    return spec


def load_backbone(source_url: str) -> tuple[nn.Module, BackboneSpec]:
    """Build the backbone of a run, a checkpoint or an exported file and load its weights strictly.

    Args:
        source_url: RUN folder | ``RUN/checkpoints/step-XXXXXXXX`` | ``backbone.safetensors`` | a folder with
            ``config.json`` and ``model.safetensors``; path or URL. Or ``random:NAME[@WIDTH][#SEED]``.

    Returns:
        The module on the CPU in eval mode with gradients off, and what is known of it.

    Raises:
        BackboneError: the source holds no backbone, or weights and configuration don't fit.
        StorageError: it can't be read.
    """
    if source_url.startswith(RANDOM):
        return _load_random(source_url)
    if is_hub_folder(source_url):
        source_url = storage.join(source_url, "model.safetensors")
    if source_url.endswith(".safetensors"):
        tensors, fields = _read_exported(source_url)
    else:
        checkpoint = find_checkpoint(source_url)
        tensors, fields = _read_checkpoint(checkpoint)
        source_url = checkpoint
    try:
        backbone = build_backbone(fields["backbone"], width=fields["width"], **fields["options"])
        # load_state_dict forgives missing BatchNorm counters where the version record is gone; this doesn't.
        odd = sorted(set(tensors) ^ set(backbone.state_dict()))
        if odd:
            raise ValueError(f"missing or unexpected tensors: {', '.join(odd[:5])}{' …' if odd[5:] else ''}")
        backbone.load_state_dict(tensors, strict=True)
    except (ValueError, RuntimeError) as error:
        raise BackboneError(
            f"{storage.redact(source_url)}: weights don't fit backbone={fields['backbone']} "
            f"width={fields['width']}: {_shorten(error)}"
        ) from error
    found = int(backbone.feature_dim)
    if fields.setdefault("feature_dim", found) != found:
        raise BackboneError(
            f"{storage.redact(source_url)}: header says feature_dim={fields['feature_dim']}, "
            f"the network built from it has {found}"
        )
    backbone.requires_grad_(False).eval()
    spec = BackboneSpec(**fields, digest=weights_digest(tensors), source=storage.redact(source_url))
    return backbone, spec


def is_hub_folder(url: str) -> bool:
    """Tell whether a folder was exported for model hubs, by its ``config.json``.

    Raises:
        BackboneError: there is one of another kind.
    """
    if url.startswith(RANDOM) or url.endswith(".safetensors"):
        return False
    names = set(storage.list_names(url, retry=storage.AT_START))
    if not {"config.json", "model.safetensors"} <= names:
        return False
    place = storage.redact(storage.join(url, "config.json"))
    try:
        found = json.loads(storage.read_bytes(storage.join(url, "config.json")))["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(f"{place}: no encoder of format {HUB_FORMAT} ({error})") from error
    if found != HUB_FORMAT:
        raise BackboneError(f"{place}: format is {found!r}, this version reads {HUB_FORMAT!r}")
    return True


def _load_random(source: str) -> tuple[nn.Module, BackboneSpec]:
    try:
        backbone, fields = build_random(source)
    except ValueError as error:
        raise BackboneError(f"{source}: {error}") from None
    backbone.requires_grad_(False).eval()
    return backbone, BackboneSpec(**fields, digest=weights_digest(backbone.state_dict()), source=source)


def find_checkpoint(url: str) -> str:
    """Return the checkpoint folder that a run or checkpoint URL means: the newest committed one.

    Raises:
        BackboneError: neither a run nor a checkpoint, or nothing committed in it.
    """
    names = set(storage.list_names(url, retry=storage.AT_START))
    if {COMMITTED, "model.safetensors"} <= names:
        return url.rstrip("/")
    if "state.json" in names or "model.safetensors" in names:
        raise BackboneError(
            f"{storage.redact(url)}: has no COMMITTED file, so it was never finished; "
            "give the run folder and the newest finished checkpoint is taken"
        )
    folder = storage.join(url, "checkpoints")
    steps = sorted(
        (int(match[1]), name)
        for name in (storage.list_names(folder) if "checkpoints" in names else [])
        if (match := _STEP_FOLDER.fullmatch(name))
    )
    for _, name in reversed(steps):
        if storage.exists(storage.join(folder, name, COMMITTED)):
            return storage.join(folder, name)
    if not names:
        raise BackboneError(f"{storage.redact(url)}: no such run, checkpoint or .safetensors file")
    raise BackboneError(
        f"{storage.redact(url)}: no committed checkpoint in it "
        f"({len(steps)} unfinished); expected checkpoints/step-XXXXXXXX/COMMITTED"
    )


def read_run_config(url: str) -> dict[str, Any]:
    """Return the resolved config of a run folder as plain sections.

    Raises:
        BackboneError: it is no mapping of sections.
        StorageError: it can't be read.
    """
    document = yaml.safe_load(storage.read_bytes(storage.join(url, "config.yaml")))
    if not isinstance(document, dict):
        raise BackboneError(f"{storage.redact(url)}/config.yaml: expected sections, found {document!r:.60}")
    return document


def _read_checkpoint(url: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        state = json.loads(storage.read_bytes(storage.join(url, "state.json")))
        config = state["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(f"{storage.redact(url)}/state.json: no run config in it ({error})") from error
    everything = safetensors.torch.load(storage.read_bytes(storage.join(url, "model.safetensors")))
    tensors = {
        name.removeprefix(PREFIX): value for name, value in everything.items() if name.startswith(PREFIX)
    }
    if not tensors:
        raise BackboneError(f"{storage.redact(url)}/model.safetensors: no tensor named {PREFIX}*")
    return tensors, fields_of_config(config, f"{storage.redact(url)}/state.json")


def _read_exported(url: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    data = storage.read_bytes(url, retry=storage.AT_START)
    try:
        tensors = safetensors.torch.load(data)
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, struct.error, ValueError) as error:
        raise BackboneError(
            f"{storage.redact(url)}: not a safetensors file, or damaged: {_shorten(error)}"
        ) from error
    missing = [name for name in _REQUIRED if name not in header]
    if missing or header["format"] != FORMAT:
        raise BackboneError(
            f"{storage.redact(url)}: not an exported backbone of format {FORMAT} "
            f"(missing in its header: {', '.join(missing) or 'nothing'}; format: {header.get('format')!r}); "
            "write one with: pal-pretrain export RUN --out backbone.safetensors"
        )
    try:
        fields = {
            "backbone": header["backbone"],
            "width": float(header["width"]),
            "feature_dim": int(header["feature_dim"]),
            "clip_frames": int(header["clip_frames"]),
            "size": int(header["size"]),
            "mean": triple(json.loads(header["mean"])),
            "std": triple(json.loads(header["std"])),
            "options": dict(json.loads(header["options"])),
        }
    except (ValueError, TypeError) as error:
        raise BackboneError(f"{storage.redact(url)}: malformed header: {error}") from error
    return tensors, fields


def _shorten(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} …"
