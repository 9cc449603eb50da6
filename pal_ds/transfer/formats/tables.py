"""CSV as BSN and BMN read it, and the video list that goes with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.transfer.feature_store import FeatureStore

BMN_ROWS = 100
INFO_COLUMNS = ("video", "numFrame", "seconds", "fps", "rfps", "subset", "featureFrame")


def write_bmn(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write ``csv_mean_100/v_<id>.csv``: a header line, then 100 rows of C values."""
    for sidecar, array in features.items():
        url = storage.join(out_url, "csv_mean_100", f"v_{sidecar.id}.csv")
        storage.write_bytes(url, to_csv(resize_endpoints(array, BMN_ROWS)))
    write_video_info(features, storage.join(out_url, "video_info_new.csv"), database)


def resize_endpoints(array: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Resize [T, C] to [rows, C] linearly with both ends kept: row i is taken at ``i * (T - 1) / (rows - 1)``.

    This is BSN's convention; others resize without keeping the ends, which is why files at native rate are
    what is stored (research on peers, input formats).
    """
    positions = np.arange(rows) * ((len(array) - 1) / (rows - 1))
    low = np.clip(np.floor(positions).astype(np.int64), 0, max(0, len(array) - 2))
    high = np.minimum(low + 1, len(array) - 1)
    share = (positions - low)[:, None]
    return np.asarray(array[low] * (1 - share) + array[high] * share, dtype=np.float32)


def to_csv(array: NDArray[np.float32]) -> bytes:
    """Return rows of values under a header ``f0,f1,…``; nine digits keep float32 exactly."""
    text = io.StringIO()
    header = ",".join(f"f{number}" for number in range(array.shape[1]))
    np.savetxt(text, array, delimiter=",", header=header, comments="", fmt="%.9g")
    return text.getvalue().encode()


def from_csv(data: bytes) -> NDArray[np.float32]:
    """Parse a csv of features with one header line into float32 [T, C].

    Raises:
        ValueError: a row of another length, or something that is no number.
    """
    return np.loadtxt(io.StringIO(data.decode()), delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)


def write_video_info(features: FeatureStore, url: str, database: Mapping[str, Any]) -> None:
    """Write the video list with the columns of G-TAD's and BMN's ``video_info_new.csv``.

    ``featureFrame`` is the number of sampled frames that the features cover, as in the published file (frames
    rounded down to whole clips). Videos missing from the annotations get the subset ``unknown``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INFO_COLUMNS)
    for video_id in features.ids:
        sidecar = features.sidecar(video_id)
        covered = round((sidecar.features - 1) * sidecar.stride + sidecar.clip_frames)
        subset = database.get(video_id, {}).get("subset", "unknown")
        rate = sidecar.frames / sidecar.duration
        writer.writerow(
            [
                f"v_{video_id}",
                sidecar.frames,
                repr(sidecar.duration),
                repr(sidecar.fps),
                repr(rate),
                subset,
                min(covered, sidecar.frames),
            ]
        )
    storage.write_bytes(url, text.getvalue().encode())
