"""Features made elsewhere (TSP, I3D, VideoMAE, …) brought into this project's form, so that they are scored alike."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.config.base import ConfigError, check, option
from pal_ds.formats.feature_folder import FeatureError, load_array
from pal_ds.formats.feature_sidecar import FORMAT, Sidecar, array_name, sidecar_name
from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.extraction.destination import SETTINGS_NAME
from pal_ds.transfer.feature_formats.hdf5 import read_items
from pal_ds.transfer.feature_formats.tables import from_csv

KINDS = ("npy", "hdf5", "csv")
#: Share of a video's duration by which its features may be off before their time axis is doubted: some videos of
#: ActivityNet were distributed without their ends.
MOST_UNCOVERED = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What must be known of foreign features; their files don't say it.

    Raises:
        ConfigError: a value out of its range, or a time axis that is given twice or not at all.
    """

    kind: str = option("npy", f"{', '.join(KINDS)}: a folder of [v_]<id>.npy or .csv, or one HDF5 file")
    rescaled: bool = option(False, "every video's rows are spread evenly over its duration (BMN's 100 rows)")
    fps: float = option(0.0, "sampled frames per second; 0 takes each video's fps from the annotations")
    clip_frames: int = option(0, "sampled frames per feature")
    stride: float = option(0.0, "sampled frames between features")
    offset: float = option(0.0, "sampled frame at which the first clip starts")

    def __post_init__(self) -> None:
        check(self.kind in KINDS, "--kind", self.kind, f"use one of {', '.join(KINDS)}")
        given = bool(self.fps or self.clip_frames or self.stride or self.offset)
        check(
            not (self.rescaled and given),
            "--rescaled",
            True,
            "leave out --fps, --clip-frames, --stride and --offset; the duration decides",
        )
        if not self.rescaled:
            check(
                self.clip_frames >= 1, "--clip-frames", self.clip_frames, "say how many frames a feature saw"
            )
            check(self.stride > 0, "--stride", self.stride, "say how many frames lie between two features")
        check(self.fps >= 0, "--fps", self.fps, "use 0 (from the annotations) or frames per second")


def import_features(
    source_url: str, out_url: str, options: ImportOptions, database: Mapping[str, Any]
) -> tuple[int, list[str]]:
    """Write every video of ``source_url`` as ``v_<id>.npy`` with a sidecar.

    Args:
        source_url: a folder, or an HDF5 file.
        out_url: destination; must hold no features yet.
        options: the time axis.
        database: annotations by id with ``duration``, and ``fps`` where the options have none.

    Returns:
        How many were written, and the ids left out because the annotations don't know them.

    Raises:
        ConfigError: the destination is taken, an annotation lacks what is needed, or the time axis given doesn't fit
            the durations of most videos.
        FeatureError: a file is no features, its values aren't finite, two have one id or different channels, or
            nothing was found.
    """
    if any(name.startswith("v_") for name in storage.list_names(out_url, retry=storage.AT_START)):
        raise ConfigError("--out", storage.redact(out_url), "holds features already; choose another folder")
    storage.make_folder(out_url)
    digest = hashlib.sha256(storage.redact(source_url).encode()).hexdigest()
    written: dict[str, str] = {}
    unknown, misfits, channels = [], [], 0
    try:
        for video_id, source, array in _items(source_url, options.kind):
            row = database.get(video_id)
            if row is None:
                unknown.append(video_id)
                continue
            if video_id in written:
                raise FeatureError(
                    f"{source}: has the id {video_id!r} of {written[video_id]} too; keep one of them"
                )
            channels = channels or array.shape[1]
            _check_array(array, source, channels)
            sidecar = _sidecar(video_id, source, array, options, row, f"imported:{digest}")
            if misfit := _misfit(sidecar, options):
                misfits.append(misfit)
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            storage.write_bytes(storage.join(out_url, array_name(video_id)), file.getvalue())
            storage.write_bytes(storage.join(out_url, sidecar_name(video_id)), sidecar.to_json())
            written[video_id] = source
        if 2 * len(misfits) > len(written):
            raise ConfigError(
                "--stride",
                options.stride,
                f"{len(misfits)} of {len(written)} videos don't fit it: {misfits[0]}",
            )
        if not written:
            raise FeatureError(
                f"{storage.redact(source_url)}: no {options.kind} features of annotated videos "
                f"({len(unknown)} videos without annotation)"
            )
    except (ConfigError, FeatureError):
        for video_id in written:
            for name in (sidecar_name(video_id), array_name(video_id)):
                storage.remove(storage.join(out_url, name))
        raise
    settings = {"format": FORMAT, "checkpoint": f"imported:{digest}", **dataclasses.asdict(options)}
    storage.write_bytes(storage.join(out_url, SETTINGS_NAME), dump_json(settings))
    return len(written), sorted(unknown)


def _check_array(array: NDArray[np.float32], source: str, channels: int) -> None:
    if 0 in array.shape:
        raise FeatureError(f"{source}: shape {list(array.shape)} holds no feature")
    if array.shape[1] != channels:
        turned = "; it looks transposed: give [T, C]" if array.shape[0] == channels else ""
        raise FeatureError(
            f"{source}: {array.shape[1]} channels, the files before it have {channels}{turned}"
        )
    if not np.isfinite(array).all():
        raise FeatureError(f"{source}: holds values that aren't finite, as float16 does beyond 65504")


def _misfit(sidecar: Sidecar, options: ImportOptions) -> str | None:
    """Say how the features' time axis contradicts the video's duration, or nothing."""
    if options.rescaled:
        return None
    covered = (sidecar.offset + (sidecar.features - 1) * sidecar.stride + sidecar.clip_frames) / sidecar.fps
    whole = 2 * max(sidecar.stride, sidecar.clip_frames) / sidecar.fps
    slack = max(MOST_UNCOVERED * sidecar.duration, whole)
    if abs(covered - sidecar.duration) <= slack:
        return None
    rows, columns = sidecar.features, sidecar.feature_dim
    turned = (sidecar.offset + (columns - 1) * sidecar.stride + sidecar.clip_frames) / sidecar.fps
    hint = (
        "they look transposed: give [T, C]"
        if abs(turned - sidecar.duration) <= slack
        else ("check --fps, --stride and --clip-frames")
    )
    shown = f"{sidecar.source}: [{rows}, {columns}]"
    return f"{shown} covers {covered:.1f} s of a video of {sidecar.duration:.1f} s; {hint}"


def _sidecar(
    video_id: str,
    source: str,
    array: NDArray[np.float32],
    options: ImportOptions,
    row: Mapping[str, Any],
    checkpoint: str,
) -> Sidecar:
    try:
        duration = float(row["duration"])
        fps = len(array) / duration if options.rescaled else options.fps or float(row["fps"])
        if not (math.isfinite(duration) and math.isfinite(fps) and min(duration, fps) > 0):
            raise ValueError(f"duration {duration} or fps {fps}")
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError("--annotations", video_id, f"lacks a usable {error}; give it or --fps") from error
    clip = 1 if options.rescaled else options.clip_frames
    stride = 1.0 if options.rescaled else options.stride
    return Sidecar(
        id=video_id,
        source=source,
        fps=fps,
        clip_frames=clip,
        stride=stride,
        offset=options.offset,
        duration=duration,
        frames=round(duration * fps),
        padded=0,
        features=len(array),
        feature_dim=array.shape[1],
        sampling="imported",
        crop="imported",
        size=0,
        checkpoint=checkpoint,
    )


def _items(url: str, kind: str) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    if kind == "hdf5":
        # HDF5 needs a file it can seek in.
        with tempfile.TemporaryDirectory(prefix="pal-hdf5-") as folder:
            path = storage.local_path(url) if storage.is_local(url) else Path(folder) / "features.h5"
            if not storage.is_local(url):
                path.write_bytes(storage.read_bytes(url))
            try:
                for name, array in read_items(path):
                    yield name, f"{path.name}/{name}", array
            except OSError as error:
                raise FeatureError(f"{storage.redact(url)}: no HDF5 file: {error}") from error
        return
    for info in storage.iter_files(url, retry=storage.AT_START):
        stem, _, extension = info.relative.rsplit("/", 1)[-1].rpartition(".")
        if extension != kind:
            continue
        data = storage.read_bytes(info.url)
        try:
            array = from_csv(data) if kind == "csv" else load_array(data, info.relative)
        except ValueError as error:
            raise FeatureError(f"{info.relative}: {error}") from error
        yield stem.removeprefix("v_") or stem, info.relative, array
