"""LGI's layout, and what OpenTAD and ActionFormer need beside ``v_<id>.npy``: settings and an annotation file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.feature_formats.hdf5 import evenly
from pal_ds.transfer.feature_formats.tables import annotated_parts

#: Into how many parts a frame may be divided for OpenTAD.
MOST_PARTS = 1000


def write_lgi(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write ``<id>.npy`` [T, C], looked up by its bare id; row k stands for ``[k, k + 1] / T`` of the video."""
    del database
    for sidecar, array in features.items():
        file = io.BytesIO()
        np.save(file, evenly(sidecar, array), allow_pickle=False)
        storage.write_bytes(storage.join(out_url, f"{sidecar.id}.npy"), file.getvalue())


def write_opentad(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write the data set's part of an OpenTAD config, annotations, classes, and the list of videos without features.

    For its padding and sliding data sets, which compute seconds as ``(t * stride + offset) / fps``. Stride and offset
    become whole numbers there by ``int()``, so frames are counted in units small enough for both to be whole, and
    ``frame`` is ``duration * fps`` in these units, not rounded.

    Raises:
        ConfigError: videos differ in clip length, stride or offset, or no unit makes these whole.
    """
    sidecars = [features.sidecar(video_id) for video_id in features.ids]
    first = _one_grid(sidecars)
    unit = _whole_unit(first)
    merged = _merged(sidecars, database, unit=unit)
    labels = _labels(merged)
    named = {
        "data_path": absolute(features.url),
        "annotation_path": absolute(storage.join(out_url, "annotations.json")),
        "class_map": absolute(storage.join(out_url, "category_idx.txt")),
        "block_list": absolute(storage.join(out_url, "missing_files.txt")),
        "feature_prefix": "v_",
        "in_channels": first.feature_dim,
        "num_classes": len(labels),
        "feature_stride": round(first.stride * unit),
        "sample_stride": 1,
        "offset_frames": round(_first_centre(first) * unit),
        "fps": first.fps * unit if _same_rate(sidecars) else -1,
    }
    text = (
        "# Paste into an OpenTAD config with a ...PaddingDataset or ...SlidingDataset.\n"
        f"# Frames count {'whole' if unit == 1 else f'in parts of 1/{unit}'}; fps = -1: as annotated.\n"
    ) + "".join(f"{name} = {value!r}\n" for name, value in named.items())
    storage.write_bytes(storage.join(out_url, "dataset.py"), text.encode())
    storage.write_bytes(storage.join(out_url, "annotations.json"), dump_json({"database": merged}))
    missing = sorted(set(database) - set(features.ids))
    for name, lines in (("category_idx.txt", labels), ("missing_files.txt", missing)):
        storage.write_bytes(storage.join(out_url, name), "".join(f"{line}\n" for line in lines).encode())


def write_actionformer(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write the ``dataset`` section of an ActionFormer config and its annotation file.

    ActionFormer computes times from one ``num_frames`` and ``feat_stride`` and the fps of each video (or one
    ``default_fps``), which is exactly this project's convention; an offset becomes a part of ``num_frames``. Its
    reader demands that ``num_classes`` be the number of classes in ``annotations.json``, which holds the videos at
    hand only.

    Raises:
        ConfigError: videos differ in clip length, stride or offset.
    """
    sidecars = [features.sidecar(video_id) for video_id in features.ids]
    first = _one_grid(sidecars)
    merged = _merged(sidecars, database)
    labels = _labels(merged)
    numbers = {label: number for number, label in enumerate(labels)}
    for row in merged.values():
        for part in row["annotations"]:
            part["label_id"] = numbers[part["label"]]
    section = {
        "dataset": {
            "json_file": absolute(storage.join(out_url, "annotations.json")),
            "feat_folder": absolute(features.url),
            "file_prefix": "v_",
            "file_ext": ".npy",
            "num_classes": len(labels),
            "input_dim": first.feature_dim,
            "feat_stride": _plain(first.stride),
            "num_frames": _plain(2 * _first_centre(first)),
            "default_fps": first.fps if _same_rate(sidecars) else None,
        }
    }
    storage.write_bytes(
        storage.join(out_url, "dataset.yaml"), yaml.safe_dump(section, sort_keys=False).encode()
    )
    storage.write_bytes(
        storage.join(out_url, "annotations.json"), dump_json({"version": "pal-ds", "database": merged})
    )


def absolute(url: str) -> str:
    """Return a local place as an absolute path, so that a config means the same from every working folder."""
    return str(storage.local_path(url).resolve()) if storage.is_local(url) else storage.redact(url)


def _merged(sidecars: list[Sidecar], database: Mapping[str, Any], *, unit: int = 1) -> dict[str, Any]:
    """Return annotation rows of the videos at hand, with the duration and rate the features have."""
    return {
        sidecar.id: {
            "subset": database.get(sidecar.id, {}).get("subset", "unknown"),
            "duration": sidecar.duration,
            "fps": sidecar.fps,
            "frame": sidecar.duration * sidecar.fps * unit,
            "annotations": annotated_parts(database.get(sidecar.id, {})),
        }
        for sidecar in sidecars
    }


def _labels(merged: Mapping[str, Any]) -> list[str]:
    return sorted({str(part["label"]) for row in merged.values() for part in row["annotations"]})


def _first_centre(sidecar: Sidecar) -> float:
    """Return the centre of the first feature in sampled frames."""
    return sidecar.offset + sidecar.clip_frames / 2


def _whole_unit(sidecar: Sidecar) -> int:
    """Return the smallest division of a frame that makes stride and first centre whole numbers."""
    for unit in range(1, MOST_PARTS + 1):
        if all(
            abs(value * unit - round(value * unit)) < 1e-9
            for value in (sidecar.stride, _first_centre(sidecar))
        ):
            return unit
    raise ConfigError(
        "--format",
        "opentad",
        f"counts in whole parts of frames; stride {sidecar.stride} of {sidecar.id} isn't any",
    )


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
