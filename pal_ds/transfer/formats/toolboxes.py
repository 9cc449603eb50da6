"""LGI's layout, and what OpenTAD and ActionFormer need beside ``v_<id>.npy``: settings and an annotation file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.shardset import dump_json
from pal_ds.transfer.feature_store import FeatureStore
from pal_ds.transfer.sidecar import Sidecar


def write_lgi(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write ``<id>.npy`` [T, C]; LGI looks a video up by its bare id."""
    del database
    for sidecar, array in features.items():
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        storage.write_bytes(storage.join(out_url, f"{sidecar.id}.npy"), file.getvalue())


def write_opentad(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write the data set's part of an OpenTAD config, annotations, and the list of videos without features."""
    sidecars = [features.sidecar(video_id) for video_id in features.ids]
    first = _one_grid(sidecars)
    text = (
        "# Paste into an OpenTAD config; every v_<id>.npy is [T, C] float32 at native rate.\n"
        f"data_path = {features.url!r}\n"
        'annotation_path = "annotations.json"\n'
        'block_list = "missing_files.txt"\n'
        'feature_prefix = "v_"\n'
        f"in_channels = {first.feature_dim}\n"
        f"feature_stride = {_plain(first.stride)}  # frames between features\n"
        "sample_stride = 1\n"
        f"offset_frames = {_plain(first.offset + first.clip_frames / 2)}  # centre of the first feature\n"
        f"fps = {first.fps if _same_rate(sidecars) else -1}  # -1: as in the annotations\n"
    )
    storage.write_bytes(storage.join(out_url, "dataset.py"), text.encode())
    storage.write_bytes(
        storage.join(out_url, "annotations.json"), dump_json({"database": _merged(sidecars, database)})
    )
    missing = sorted(set(database) - set(features.ids))
    storage.write_bytes(
        storage.join(out_url, "missing_files.txt"), "".join(f"{name}\n" for name in missing).encode()
    )


def write_actionformer(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write the ``dataset`` section of an ActionFormer config and its annotation file.

    ActionFormer computes times from one ``num_frames`` and ``feat_stride`` and the fps of each video (or one
    ``default_fps``), which is exactly this project's convention.
    """
    sidecars = [features.sidecar(video_id) for video_id in features.ids]
    first = _one_grid(sidecars)
    labels = sorted(
        {part["label"] for row in database.values() for part in row.get("annotations", ()) if "label" in part}
    )
    section = {
        "dataset": {
            "json_file": "annotations.json",
            "feat_folder": features.url,
            "file_prefix": "v_",
            "file_ext": ".npy",
            "num_classes": max(1, len(labels)),
            "input_dim": first.feature_dim,
            "feat_stride": _plain(first.stride),
            "num_frames": first.clip_frames,
            "default_fps": first.fps if _same_rate(sidecars) else None,
        }
    }
    storage.write_bytes(
        storage.join(out_url, "dataset.yaml"), yaml.safe_dump(section, sort_keys=False).encode()
    )
    numbers = {label: number for number, label in enumerate(labels)}
    storage.write_bytes(
        storage.join(out_url, "annotations.json"),
        dump_json({"version": "pal-ds", "database": _merged(sidecars, database, numbers)}),
    )


def _merged(
    sidecars: list[Sidecar], database: Mapping[str, Any], numbers: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return annotation rows of the videos at hand, with the duration and rate the features have."""
    merged = {}
    for sidecar in sidecars:
        row = database.get(sidecar.id, {})
        parts = [dict(part) for part in row.get("annotations", ())]
        for part in parts:
            if numbers and "label" in part:
                part["label_id"] = numbers[part["label"]]
        merged[sidecar.id] = {
            "subset": row.get("subset", "unknown"),
            "duration": sidecar.duration,
            "fps": sidecar.fps,
            "frame": sidecar.frames,
            "annotations": parts,
        }
    return merged


def _one_grid(sidecars: list[Sidecar]) -> Sidecar:
    """Return the first sidecar, having made sure that all share clip length, stride and offset."""
    first = sidecars[0]
    for other in sidecars[1:]:
        same = (other.clip_frames, other.stride, other.offset) == (
            first.clip_frames,
            first.stride,
            first.offset,
        )
        if not same:
            raise ConfigError(
                "--format", f"{other.id}", f"has another clip length, stride or offset than {first.id}"
            )
    return first


def _same_rate(sidecars: list[Sidecar]) -> bool:
    return len({sidecar.fps for sidecar in sidecars}) == 1


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value
