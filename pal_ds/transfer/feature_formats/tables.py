"""CSV as BMN reads it, and the lists of videos and annotations that G-TAD and BMN share for ActivityNet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.formats.feature_folder import FeatureStore, at_times
from pal_ds.formats.feature_sidecar import Sidecar
from pal_ds.formats.shardset import dump_json

BMN_ROWS = 100
#: BMN's post-processing takes a video for as long as its whole clips of so many frames.
BMN_CLIP = 16
INFO_COLUMNS = ("video", "numFrame", "seconds", "fps", "rfps", "subset", "featureFrame")


def write_bmn(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write ``csv_mean_100/v_<id>.csv`` (a header line, 100 rows of C values) and the lists of JJBOY's reader."""
    for sidecar, array in features.items():
        url = storage.join(out_url, "csv_mean_100", f"v_{sidecar.id}.csv")
        seconds = bmn_frames(sidecar) / sidecar.frames * sidecar.duration
        storage.write_bytes(url, to_csv(pool_by_time(array, sidecar.centres(), seconds, BMN_ROWS)))
    write_lists(features, out_url, database, bmn_frames)


def bmn_frames(sidecar: Sidecar) -> int:
    """Return how many frames the rows of a ``bmn-csv`` file cover: whole clips of 16, as its reader assumes."""
    return sidecar.frames // BMN_CLIP * BMN_CLIP or sidecar.frames


def pool_by_time(
    array: NDArray[np.float32], centres_t: NDArray[np.float64], seconds: float, rows: int
) -> NDArray[np.float32]:
    """Pool features into equal parts of time, as the published ``csv_mean_100`` was made (BSN's pooling).

    Row i is the mean of the features interpolated at the start, middle and end of
    ``[i, i + 1] / rows * seconds``; what lies before the first or after the last centre takes that one's feature.

    Args:
        array: [T, C].
        centres_t: seconds of the features, rising [T].
        seconds: that the rows cover.
        rows: how many.

    Returns:
        float32 [rows, C].
    """
    edges = np.clip(np.arange(rows + 1) * (seconds / rows), centres_t[0], centres_t[-1])
    middles = (edges[:-1] + edges[1:]) / 2
    samples = [at_times(array, centres_t, times) for times in (edges[:-1], middles, edges[1:])]
    return np.asarray(np.mean(samples, axis=0), dtype=np.float32)


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


def write_lists(
    features: FeatureStore, out_url: str, database: Mapping[str, Any], covered: Callable[[Sidecar], int]
) -> None:
    """Write ``video_info_new.csv`` and ``anet_anno_action.json``, both of which G-TAD and BMN need.

    The readers take the rows of a video to cover ``feature_frame / duration_frame * duration_second`` seconds evenly,
    and fail on a training or validation video without annotations: such a video gets the subset ``unannotated``, one
    missing from ``database`` ``unknown``.

    Args:
        features: the videos.
        out_url: folder of both files.
        database: annotations by id.
        covered: how many of a video's frames its rows cover.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INFO_COLUMNS)
    rows = {}
    for video_id in features.ids:
        sidecar = features.sidecar(video_id)
        entry = database.get(video_id, {})
        parts = annotated_parts(entry)
        subset = entry.get("subset", "unknown")
        if not parts and subset in ("training", "validation"):
            subset = "unannotated"
        rows[f"v_{video_id}"] = {
            "duration_second": sidecar.duration,
            "duration_frame": sidecar.frames,
            "annotations": parts,
            "feature_frame": covered(sidecar),
        }
        rate = sidecar.frames / sidecar.duration
        writer.writerow(
            [
                f"v_{video_id}",
                sidecar.frames,
                repr(sidecar.duration),
                repr(sidecar.fps),
                repr(rate),
                subset,
                covered(sidecar),
            ]
        )
    storage.write_bytes(storage.join(out_url, "video_info_new.csv"), text.getvalue().encode())
    storage.write_bytes(storage.join(out_url, "anet_anno_action.json"), dump_json(rows))


def annotated_parts(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return copies of a video's annotations that have a segment and a label, which every reader asks for."""
    return [dict(part) for part in entry.get("annotations", ()) if "segment" in part and "label" in part]
