"""Detections and proposals as figures that can be drawn again: mAP, and class-agnostic AR@AN.

Which prediction is a true positive is decided within its video, so it is decided once; a draw only changes how much
each video counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.evidence.measures.bootstrap import Figure, Mean, Precision, Share
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.metrics.detection import true_positives
from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.prediction_files import from_annotations, read_predictions
from pal_ds.transfer.metrics.tiou import tiou

#: ActivityNet's.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
PROPOSALS = (1, 10, 100)


def detection_figures(
    annotations: Sequence[VideoAnnotation], predictions: Path, name: str
) -> dict[str, Figure]:
    """Return ``NAME_map`` (mean over tIoU 0.5 to 0.95) and ``NAME_map50`` of a head's ``predictions.json``."""
    truth = _instances(annotations)
    guesses = align(read_predictions(str(predictions), labelled=True), truth)
    parts: list[list[Figure]] = [[] for _ in THRESHOLDS]
    for label in range(len(truth.labels)):
        targets = truth.take(np.flatnonzero(truth.label == label))
        mine = guesses.take(np.flatnonzero((guesses.label == label) & (guesses.video >= 0)))
        positive_v = np.bincount(targets.video, minlength=len(annotations)).astype(float)
        video_p = mine.video[np.argsort(-mine.scores, kind="stable")]
        for part, hits_p in zip(parts, true_positives(targets, mine, THRESHOLDS), strict=True):
            part.append(Precision(hits_p, video_p, positive_v))
    means = [Mean(part) for part in parts]
    return {f"{name}_map": Mean(means), f"{name}_map50": means[0]}


def proposal_figures(annotations: Sequence[VideoAnnotation], predictions: Path) -> dict[str, Figure]:
    """Return ``ar1``, ``ar10`` and ``ar100``: the share of instances that their video's first proposals find."""
    truth = _instances(annotations)
    guesses = align(read_predictions(str(predictions), labelled=False), truth)
    found = np.zeros((len(PROPOSALS), len(annotations)))
    whole_v = np.bincount(truth.video, minlength=len(annotations)).astype(float)
    for number in np.flatnonzero(whole_v):
        segments = truth.segments[truth.video == number]
        mine = np.flatnonzero(guesses.video == number)
        ranked = mine[np.argsort(-guesses.scores[mine], kind="stable")]
        overlap_gp = tiou(guesses.segments[ranked][None], segments[:, None])
        for row, count in enumerate(PROPOSALS):
            best_g = overlap_gp[:, :count].max(axis=1, initial=0.0)
            found[row, number] = (best_g[:, None] >= THRESHOLDS).mean(axis=1).sum()
    return {f"ar{count}": Share(found_v, whole_v) for count, found_v in zip(PROPOSALS, found, strict=True)}


def _instances(annotations: Sequence[VideoAnnotation]) -> Instances:
    """Return the instances, videos numbered by their place: those without an instance can be guessed at, too."""
    truth = from_annotations(annotations)
    place = {one.video: number for number, one in enumerate(annotations)}
    place_v = np.array([place[video] for video in truth.videos], dtype=np.int64)
    return dataclasses.replace(truth, videos=tuple(place), video=place_v[truth.video])
