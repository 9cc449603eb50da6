"""An encoder as model hubs keep them: config.json, model.safetensors, README.md (docs/export.md)."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from torch import nn

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.formats.backbone_file import BackboneSpec, backbone_bytes
from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.backbone_export import HUB_FORMAT, is_hub_folder, load_backbone
from pal_ds.transfer.export.model_card import UNKNOWN, model_card
from pal_ds.transfer.export.run_record import Figure, RunRecord, read_record

_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def export_hub(
    source_url: str, out_url: str, *, license_id: str = UNKNOWN, name: str | None = None
) -> BackboneSpec:
    """Write an encoder as a folder with a model card.

    Args:
        source_url: run, checkpoint, exported file or folder, or ``random:NAME``.
        out_url: folder, path or URL; its files of these names are replaced, the weights last.
        license_id: an SPDX id for the card, or ``unknown``.
        name: the card's heading; the backbone and objective where none is given.

    Returns:
        What was written.

    Raises:
        ConfigError: a licence that is no id, or one for a source that has its card already.
        BackboneError: the source holds no usable backbone.
        StorageError: a place can't be read or written.
    """
    if not _LICENSE.fullmatch(license_id):
        raise ConfigError("--license", license_id, "use an SPDX id such as apache-2.0, or leave it out")
    backbone, spec = load_backbone(source_url)
    known = _written_before(source_url)
    if known is not None:
        card, config = known
        if license_id != UNKNOWN or name is not None:
            given = "--license" if license_id != UNKNOWN else "--name"
            raise ConfigError(
                given, license_id if name is None else name, "the folder has its card; edit README.md"
            )
    else:
        record = read_record(source_url)
        parameters = sum(parameter.numel() for parameter in backbone.parameters())
        heading = name or _name(spec, record)
        text = model_card(spec, record, parameters=parameters, license_id=license_id, name=heading)
        card, config = text.encode(), dump_json(hub_config(backbone, spec, record))
    storage.make_folder(out_url)
    storage.write_bytes(storage.join(out_url, "README.md"), card)
    storage.write_bytes(storage.join(out_url, "config.json"), config)
    weights = backbone_bytes(backbone.state_dict(), spec)
    storage.write_bytes(storage.join(out_url, "model.safetensors"), weights)
    return spec


def hub_config(backbone: nn.Module, spec: BackboneSpec, record: RunRecord | None) -> dict[str, Any]:
    """Return the content of ``config.json``: fields with the names that hubs use, and how it was trained."""
    found: dict[str, Any] = {
        "format": HUB_FORMAT,
        "model_type": "pal_video_encoder",
        "architectures": [type(backbone).__name__],
        "backbone": spec.backbone,
        "width": spec.width,
        "options": spec.options,
        "hidden_size": spec.feature_dim,
        "num_frames": spec.clip_frames,
        "image_size": spec.size,
        "num_channels": 3,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "dtype": "float32",
        "weights_sha256": spec.digest,
    }
    if record is not None:
        found["training"] = {
            "objective": record.config.get("objective", {}).get("name"),
            "dataset": record.dataset,
            "manifest_sha256": record.manifest,
            "splits": {split.name: {"clips": split.clips, "hours": split.hours} for split in record.splits},
            "steps": record.step,
            "global_batch": record.config.get("data", {}).get("global_batch"),
            "validated_at_step": record.validated,
            "figures": {figure.name: _figure(figure) for figure in record.figures},
        }
    return found


def _figure(figure: Figure) -> dict[str, float | None]:
    values = dataclasses.asdict(figure)
    del values["name"]
    return values


def _written_before(source_url: str) -> tuple[bytes, bytes] | None:
    """Return card and config of a source that is such a folder already: it tells of a training that isn't at hand."""
    if not is_hub_folder(source_url):
        return None
    card, config = (
        storage.read_bytes(storage.join(source_url, name)) for name in ("README.md", "config.json")
    )
    return card, config


def _name(spec: BackboneSpec, record: RunRecord | None) -> str:
    if record is None:
        return f"{spec.backbone} for temporal action localization"
    return f"{spec.backbone}, pre-trained by {record.config.get('objective', {}).get('name', 'pal-ds')}"
