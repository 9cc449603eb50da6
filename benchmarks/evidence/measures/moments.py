"""What single moments say: action against background, and where actions begin and end.

A softmax regression learns on the training videos (:func:`pal_ds.transfer.tasks.class_scores.fit_softmax`).
*Within* takes each video's mean feature away first and averages the videos' own areas: what is asked is when
something happens in a video, not in which video much happens. A boundary is looked for in what a moment is and in how
much its two neighbours differ, dimension by dimension; it is there within a stride of a start or an end, where
its neighbours lie on either side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.measures.bootstrap import Figure, Precision, RocArea, Share
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.action_probe import auc
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.tasks.class_scores import fit_softmax

Rows = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """One video's features [T, C], and which moments are action and which boundary, bool [T]."""

    values_tc: Rows
    action_t: NDArray[np.bool_]
    boundary_t: NDArray[np.bool_]

    @property
    def centred_tc(self) -> Rows:
        """The features less their mean over the video."""
        centred: Rows = self.values_tc - self.values_tc.mean(axis=0)
        return centred

    @property
    def changing_t2c(self) -> Rows:
        """The centred features beside the absolute difference of each moment's neighbours, [T, 2C]."""
        padded = np.concatenate([self.values_tc[:1], self.values_tc, self.values_tc[-1:]])
        return np.concatenate([self.centred_tc, np.abs(padded[2:] - padded[:-2])], axis=1)


def read_moments(store: FeatureStore, annotations: Sequence[VideoAnnotation]) -> list[Moments]:
    """Return the moments of annotated videos, in their order.

    Raises:
        FeatureError: a video has no features.
    """
    store.present([one.video for one in annotations], missing=0.0, name="annotations")
    found = []
    for annotation in annotations:
        features = store.load(annotation.video)
        centre_t = features.centres_t
        step = float(np.diff(centre_t).mean()) if len(centre_t) > 1 else np.inf
        action_t, boundary_t = np.zeros((2, len(centre_t)), dtype=bool)
        for segment in annotation.segments:
            action_t |= (centre_t >= segment.start) & (centre_t < segment.end)
            for edge in (segment.start, segment.end):
                boundary_t |= np.abs(centre_t - edge) < step
        values = features.values_tc.astype(np.float32)
        found.append(Moments(values_tc=values, action_t=action_t, boundary_t=boundary_t))
    return found


def moment_figures(train: Sequence[Moments], val: Sequence[Moments]) -> dict[str, Figure]:
    """Return ``auc_pooled``, ``auc_within``, ``boundary_ap`` and ``boundary_auc``."""
    pooled = _scores(
        [one.values_tc for one in train], [one.action_t for one in train], [one.values_tc for one in val]
    )
    within = _scores(
        [one.centred_tc for one in train], [one.action_t for one in train], [one.centred_tc for one in val]
    )
    edges = _scores(
        [one.changing_t2c for one in train],
        [one.boundary_t for one in train],
        [one.changing_t2c for one in val],
    )
    video_n = np.repeat(np.arange(len(val)), [len(one.action_t) for one in val])
    action_n, boundary_n = (
        np.concatenate(part) for part in ([v.action_t for v in val], [v.boundary_t for v in val])
    )
    edge_n = np.concatenate(edges)
    order = np.argsort(-edge_n, kind="stable")
    positive_v = np.array([one.boundary_t.sum() for one in val], dtype=float)
    return {
        "auc_pooled": RocArea(np.concatenate(pooled), action_n, video_n),
        "auc_within": _own_areas(within, [one.action_t for one in val]),
        "boundary_ap": Precision(boundary_n[order], video_n[order], positive_v),
        "boundary_auc": _own_areas(edges, [one.boundary_t for one in val]),
    }


def _own_areas(scores: Sequence[NDArray[np.float64]], truths: Sequence[NDArray[np.bool_]]) -> Share:
    """The mean of the areas of the videos that have both kinds of moments."""
    both = [bool(truth.any() and not truth.all()) for truth in truths]
    areas = [
        auc(score, truth) / 100 if mixed else 0.0
        for score, truth, mixed in zip(scores, truths, both, strict=True)
    ]
    return Share(areas, np.array(both, dtype=float))


def _scores(
    train: Sequence[Rows], truths: Sequence[NDArray[np.bool_]], val: Sequence[Rows]
) -> list[NDArray[np.float64]]:
    truth = np.concatenate(truths).astype(int).tolist()
    weight_kc, bias_k, mean_c, scale_c = fit_softmax(np.concatenate(train), truth, 2)
    slope_c, offset = weight_kc[1] - weight_kc[0], bias_k[1] - bias_k[0]
    return [(((rows - mean_c) / scale_c) @ slope_c + offset).astype(np.float64) for rows in val]
