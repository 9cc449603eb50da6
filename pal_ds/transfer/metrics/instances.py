"""Annotated or predicted segments of many videos, as columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from pal_ds.transfer.metrics.tiou import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Instances:
    """Segments of many videos: one row each, names kept apart and referred to by number.

    Attributes:
        videos: names of the videos.
        video: number of the row's video [N]; -1 where it's not among ``videos``.
        segments: start and end in seconds [N, 2].
        labels: class names.
        label: number of the row's class [N]; -1 where it's not among ``labels`` or there is none.
        scores: confidences [N]; zeros for annotations.
    """

    videos: tuple[str, ...]
    video: Ints
    segments: Floats
    labels: tuple[str, ...]
    label: Ints
    scores: Floats

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: Ints) -> Instances:
        """Give the same columns with these rows only, in this order."""
        return dataclasses.replace(
            self,
            video=self.video[rows],
            segments=self.segments[rows],
            label=self.label[rows],
            scores=self.scores[rows],
        )


def align(predictions: Instances, truth: Instances) -> Instances:
    """Number the videos and classes of predictions as the ground truth does; unknown names become -1."""
    return dataclasses.replace(
        predictions,
        videos=truth.videos,
        video=_renumber(predictions.video, predictions.videos, truth.videos),
        labels=truth.labels,
        label=_renumber(predictions.label, predictions.labels, truth.labels),
    )


def _renumber(numbers: Ints, names: tuple[str, ...], target: tuple[str, ...]) -> Ints:
    position = {name: index for index, name in enumerate(target)}
    # The last entry is what number -1 (no name) picks.
    table = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    return table[numbers]
