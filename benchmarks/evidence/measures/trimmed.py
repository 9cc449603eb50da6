"""What trimmed clips say: their class by a linear probe and by neighbours (the paper's TAC, with frozen features).

A clip is the mean of its features over time. Nothing is chosen by these figures: k and the regression's steps are
fixed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.measures.bootstrap import Figure, Share
from benchmarks.evidence.measures.segments import neighbours
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.tasks.class_scores import fit_softmax


def read_clips(
    store: FeatureStore, table: Path, names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return features [N, C] and class numbers [N] of the clips of a table in Kinetics' columns.

    Raises:
        FeatureError: a clip has no features.
    """
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    ids = [clip_id(row) for row in rows]
    store.present(ids, missing=0.0, name=str(table))
    values = np.stack([store.load(clip).values_tc.mean(axis=0) for clip in ids])
    return values.astype(np.float64), np.array([names.index(row["label"]) for row in rows])


def clip_id(row: dict[str, str]) -> str:
    """Return the name of a clip's file, without its ending."""
    return f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"


def trimmed_figures(
    train: tuple[NDArray[np.float64], NDArray[np.int64]],
    val: tuple[NDArray[np.float64], NDArray[np.int64]],
    classes: int,
) -> dict[str, Figure]:
    """Return ``tac_linear`` and ``tac_knn``; here the clips are what is drawn, each a video of its own."""
    (train_nc, label_n), (val_mc, truth_m) = train, val
    weight_kc, bias_k, mean_c, scale_c = fit_softmax(train_nc.astype(np.float32), label_n.tolist(), classes)
    linear_m = (((val_mc - mean_c) / scale_c) @ weight_kc.T + bias_k).argmax(axis=1)
    return {
        name: Share((guess_m == truth_m).astype(float), np.ones(len(truth_m)))
        for name, guess_m in (
            ("tac_linear", linear_m),
            ("tac_knn", neighbours(train_nc, label_n, val_mc, classes)),
        )
    }
