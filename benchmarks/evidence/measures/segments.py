"""What whole actions say: the class of an annotated segment by its neighbours, and the nearest other segment.

A segment is the mean of its moments, the mean of its video taken away: so it is what sets it apart from the rest of
its own video. Nothing is fitted but the mean of the training segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.measures.bootstrap import Figure, Share
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.tasks.class_scores import pool

#: Neighbours, and the temperature of their votes (Wu et al., CVPR 2018).
NEIGHBOURS, TEMPERATURE = 20, 0.07


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segments:
    """Features float64 [N, C], class numbers [N] and numbers of the videos [N] of annotated segments."""

    values_nc: NDArray[np.float64]
    label_n: NDArray[np.int64]
    video_n: NDArray[np.int64]


def read_segments(
    store: FeatureStore, annotations: Sequence[VideoAnnotation], names: Sequence[str]
) -> Segments:
    """Return the annotated segments of videos.

    Args:
        store: features.
        annotations: videos with their segments.
        names: classes; a segment of another one is an error.
    """
    rows, labels, videos = [], [], []
    for number, annotation in enumerate(annotations):
        if not annotation.segments:
            continue
        features = store.load(annotation.video)
        spans = np.array([(segment.start, segment.end) for segment in annotation.segments])
        rows.append(pool(features, spans) - features.values_tc.mean(axis=0))
        labels += [names.index(segment.label) for segment in annotation.segments]
        videos += [number] * len(annotation.segments)
    return Segments(
        values_nc=np.concatenate(rows).astype(np.float64), label_n=np.array(labels), video_n=np.array(videos)
    )


def segment_figures(train: Segments, val: Segments, videos: int, classes: int) -> dict[str, Figure]:
    """Return ``segment_knn`` and ``segment_r1`` (is the nearest segment of another video of the same class?)."""
    hit_n = neighbours(train.values_nc, train.label_n, val.values_nc, classes) == val.label_n
    unit_nc = unit(val.values_nc - train.values_nc.mean(axis=0))
    similarity_nn = np.where(val.video_n[:, None] == val.video_n, -np.inf, unit_nc @ unit_nc.T)
    first_n = val.label_n[similarity_nn.argmax(axis=1)] == val.label_n
    count_v = np.bincount(val.video_n, minlength=videos).astype(float)
    return {
        name: Share(np.bincount(val.video_n, weights=hits, minlength=videos).astype(float), count_v)
        for name, hits in (("segment_knn", hit_n), ("segment_r1", first_n))
    }


def neighbours(
    train_nc: NDArray[np.float64], label_n: NDArray[np.int64], val_mc: NDArray[np.float64], classes: int
) -> NDArray[np.int64]:
    """Return the class of each row by the weighted votes of its neighbours; cosines of centred features."""
    mean_c = train_nc.mean(axis=0)
    similarity_mn = unit(val_mc - mean_c) @ unit(train_nc - mean_c).T
    nearest_mk = np.argsort(-similarity_mn, axis=1, kind="stable")[:, :NEIGHBOURS]
    weight_mk = np.exp(np.take_along_axis(similarity_mn, nearest_mk, axis=1) / TEMPERATURE)
    votes_mc = np.zeros((len(val_mc), classes))
    np.add.at(votes_mc, (np.arange(len(val_mc))[:, None], label_n[nearest_mk]), weight_mk)
    return np.asarray(votes_mc.argmax(axis=1))


def unit(rows_nc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of length 1."""
    return np.asarray(rows_nc / np.maximum(np.linalg.norm(rows_nc, axis=1, keepdims=True), 1e-12))
