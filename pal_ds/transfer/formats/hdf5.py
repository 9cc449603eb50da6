"""HDF5 as G-TAD reads it (its branch ``anet`` and its master branch for THUMOS'14)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.transfer.feature_store import FeatureStore
from pal_ds.transfer.formats.tables import write_video_info
from pal_ds.transfer.sidecar import Sidecar

Rows = Callable[[Sidecar, NDArray[np.float32]], tuple[str, NDArray[np.float32]]]


def write_anet(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write one HDF5 with a data set ``v_<id>`` [T, C] per video at native rate; the reader resizes to 100."""
    _write(features, storage.join(out_url, "features.h5"), lambda sidecar, array: (f"v_{sidecar.id}", array))
    write_video_info(features, storage.join(out_url, "video_info_new.csv"), database)


def write_per_frame(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write one HDF5 with a data set ``<id>`` [frames, C] per video, the form of G-TAD's THUMOS'14 reader.

    That reader keeps every 5th row as the feature of that frame. Each frame gets the feature whose clip is
    centred nearest, so nothing is lost where the extraction stride is 5 or less.
    """
    del database
    _write(
        features,
        storage.join(out_url, "rgb.h5"),
        lambda sidecar, array: (sidecar.id, per_frame(sidecar, array)),
    )


def per_frame(sidecar: Sidecar, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [frames, C]: for every sampled frame the feature with the nearest centre, the earlier on ties."""
    middles = np.arange(sidecar.frames) + 0.5
    positions = (middles - sidecar.offset - sidecar.clip_frames / 2) / sidecar.stride
    nearest: NDArray[np.float32] = array[
        np.clip(np.ceil(positions - 0.5).astype(np.int64), 0, len(array) - 1)
    ]
    return nearest


def read_items(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name without ``v_`` and features [T, C] of every two-dimensional data set of an HDF5 file."""
    h5py = _h5py()
    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, node: found.append(name) if getattr(node, "ndim", 0) == 2 else None)
        for name in sorted(found):
            stem = name.rsplit("/", 1)[-1]
            yield stem.removeprefix("v_") or stem, np.asarray(file[name], dtype=np.float32)


def _write(features: FeatureStore, url: str, rows: Rows) -> None:
    h5py = _h5py()
    # HDF5 needs a file it can seek in; it is published whole.
    with tempfile.TemporaryDirectory(prefix="pal-hdf5-") as folder:
        path = Path(folder) / "features.h5"
        with h5py.File(path, "w", track_order=False, libver="earliest") as file:
            for sidecar, array in features.items():
                name, values = rows(sidecar, array)
                file.create_dataset(name, data=values, track_times=False)
        storage.upload_file(path, url)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("--format", "hdf5", "needs h5py: pip install h5py") from error
    return h5py
