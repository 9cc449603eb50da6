"""What the trainer needs to know of a downstream task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

#: Predictions in the official form: ``{video: [{segment, score, label or sentence}]}``.
Results = dict[str, list[dict[str, Any]]]


class Task(ABC):
    """A head with its data and its figures.

    Attributes:
        model: the head, on the device it runs on.
        items: number of training items.
        metric: the ``pal-eval`` task that scores it.
        truth: ground truth that its predictions are scored against: path or URL.
        subset: subset of that file.
        head: what the result calls the model.
        tiou: thresholds of the evaluation; empty takes the data set's, or the metric's own.
        dataset: benchmark whose annotations these are; empty tells the form by the file's name.
    """

    model: nn.Module
    items: int
    metric: str
    truth: str
    subset: str
    head: str
    tiou: str
    dataset: str = ""

    def begin_epoch(  # noqa: B027 (a hook with nothing to do)
        self, batches: list[list[int]], done: int
    ) -> None:
        """Learn which items :meth:`losses` will be asked for next, in order; most tasks needn't.

        Args:
            batches: the items of every step of the epoch.
            done: number of epochs done before.
        """

    @abstractmethod
    def losses(self, items: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the loss of training items, in train mode: its parts, and ``loss``, what is minimised."""

    @abstractmethod
    def evaluation_loss(self, generator: torch.Generator) -> float:
        """Compute the mean loss over the evaluated subset, in eval mode."""

    @abstractmethod
    def predict(self) -> Results:
        """Predict the evaluated subset, in eval mode."""

    @abstractmethod
    def headline(self, figures: dict[str, Any]) -> tuple[str, float]:
        """Name the figure by which epochs are compared, and give it; more is better."""

    def finish(self) -> None:  # noqa: B027 (a hook with nothing to do)
        """Write what the run leaves beside its figures, after the last epoch."""

    def state(self) -> dict[str, Any]:
        """Give what beside weights a prediction needs, as plain JSON."""
        return {}
