"""HDF5 as G-TAD reads it (its branch ``anet`` and its master branch for THUMOS'14)."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.formats.feature_folder import FeatureStore, at_times
from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.transfer.feature_formats.tables import annotated_parts, write_lists

Rows = Callable[[Sidecar, NDArray[np.float32]], tuple[str, NDArray[np.float32]]]


def write_anet(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write one HDF5 with a data set ``v_<id>`` [T, C] per video, and the lists that its reader needs.

    The reader (G-TAD, branch ``anet``) interpolates the rows to 100 as if they stood for equal parts of the video, so
    the T rows are brought to the centres of T equal parts by their time stamps.
    """
    _write(
        features,
        storage.join(out_url, "features.h5"),
        lambda sidecar, array: (f"v_{sidecar.id}", evenly(sidecar, array)),
    )
    write_lists(features, out_url, database, lambda sidecar: sidecar.frames)


def evenly(sidecar: Sidecar, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features at the centres of as many equal parts of the video, float32 [T, C]."""
    wanted = (np.arange(len(array)) + 0.5) / len(array) * sidecar.duration
    return at_times(array, sidecar.centres(), wanted)


def write_thumos(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write what G-TAD's master branch reads of THUMOS'14: features by frame in two streams, and two lists.

    ``{rgb,flow}_{val,test}.h5`` hold a data set ``<id>`` [frames, C] per video; a video belongs to ``val`` or
    ``test`` by its id, as in the reader. All channels are in ``rgb_*``: the reader joins the streams, and those of
    ``flow_*`` are [frames, 0]. It keeps every 5th row, and takes row k for the time
    ``k / fps``: each is interpolated there between the features on both sides.

    ``val_Annotation.csv`` and ``test_Annotation.csv`` are written where there are annotations; their frames are those
    of the rows, ``seconds * fps``.

    Raises:
        ConfigError: an id says neither ``val`` nor ``test``.
    """
    parts = {part: [name for name in features.ids if _part(name) == part] for part in ("val", "test")}
    for part, names in parts.items():
        _write(
            features,
            storage.join(out_url, f"rgb_{part}.h5"),
            lambda sidecar, array: (sidecar.id, per_frame(sidecar, array)),
            names,
        )
        _write(
            features,
            storage.join(out_url, f"flow_{part}.h5"),
            lambda sidecar, _: (sidecar.id, np.zeros((sidecar.frames, 0), np.float32)),
            names,
        )
        if database:
            url = storage.join(out_url, f"{part}_Annotation.csv")
            storage.write_bytes(url, _frames_of(features, names, database))


def _part(video_id: str) -> str:
    for part in ("val", "test"):
        if part in video_id:
            return part
    raise ConfigError(
        "--format",
        "gtad-thumos",
        f"its reader tells the sets apart by ids that contain 'val' or 'test'; {video_id!r} has neither",
    )


def _frames_of(features: FeatureStore, names: Iterable[str], database: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "type", "start", "end", "startFrame", "endFrame"])
    for name in names:
        fps = features.sidecar(name).fps
        for part in annotated_parts(database.get(name, {})):
            start, end = (float(value) for value in part["segment"])
            writer.writerow([name, part["label"], start, end, round(start * fps, 3), round(end * fps, 3)])
    return text.getvalue().encode()


def per_frame(sidecar: Sidecar, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features interpolated at the times ``k / fps`` of all sampled frames, float32 [frames, C]."""
    return at_times(array, sidecar.centres(), np.arange(sidecar.frames) / sidecar.fps)


def read_items(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name without ``v_`` and features [T, C] of every two-dimensional data set of an HDF5 file."""
    h5py = _h5py()
    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, node: found.append(name) if getattr(node, "ndim", 0) == 2 else None)
        for name in sorted(found):
            stem = name.rsplit("/", 1)[-1]
            yield stem.removeprefix("v_") or stem, np.asarray(file[name], dtype=np.float32)


def _write(features: FeatureStore, url: str, rows: Rows, names: Iterable[str] | None = None) -> None:
    h5py = _h5py()
    # HDF5 needs a file it can seek in; it is published whole.
    with tempfile.TemporaryDirectory(prefix="pal-hdf5-") as folder:
        path = Path(folder) / "features.h5"
        with h5py.File(path, "w", track_order=False, libver="earliest") as file:
            for video_id in features.ids if names is None else names:
                name, values = rows(*features.read(video_id))
                file.create_dataset(name, data=values, track_times=False)
        storage.upload_file(path, url)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("--format", "hdf5", "needs h5py: pip install h5py") from error
    return h5py
