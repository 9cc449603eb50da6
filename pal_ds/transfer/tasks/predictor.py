"""A trained head applied to features of a video: what scoring a run and localizing new videos have in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pal_ds.config.heads import HeadConfig
from pal_ds.config.transfer import PostConfig, TransferConfig
from pal_ds.formats.feature_folder import VideoFeatures
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.tasks.class_scores import Labeller
from pal_ds.transfer.tasks.windows import Piece, cut

#: One found action in the official form: ``segment`` in seconds, ``score``, and ``label`` where classes are told.
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How features become a head's input, and its output segments.

    Attributes:
        head: its options.
        post: from its output to segments.
        shape: ``rescale`` or ``windows``.
        every: with windows, each n-th feature is kept.
        batch: pieces a forward pass.
    """

    head: HeadConfig
    post: PostConfig
    shape: str
    every: int
    batch: int

    @classmethod
    def of(cls, config: TransferConfig) -> Reading:
        """Return that of a run."""
        return cls(
            head=config.head,
            post=config.post,
            shape=config.data.shape,
            every=config.data.every,
            batch=config.optimizer.batch,
        )

    def pieces(self, features: VideoFeatures) -> list[Piece]:
        """Cut a video into a head's inputs; nothing is known of its actions."""
        unknown = VideoAnnotation(
            video=features.video, subset="", duration=features.duration, fps=0.0, segments=()
        )
        return list(
            cut(
                features,
                unknown,
                shape=self.shape,
                snippets=self.head.snippets,
                every=self.every,
                training=False,
            )
        )


class Predictor(ABC):
    """Finds the actions of a video.

    Args:
        reading: how its features are cut and its output read.
        model: the head, in eval mode when asked.
        device: where it runs.
        classes: the head's own classes; empty where it tells none apart.
        labeller: names the classes of segments where the head doesn't; None leaves them without.
    """

    def __init__(
        self,
        reading: Reading,
        model: nn.Module,
        device: torch.device,
        *,
        classes: Sequence[str] = (),
        labeller: Labeller | None = None,
    ) -> None:
        self.reading, self.model, self.device = reading, model, device
        self.classes, self.labeller = tuple(classes), labeller

    @classmethod
    @abstractmethod
    def network(cls, head: HeadConfig, feature_dim: int, classes: Sequence[str]) -> nn.Module:
        """Make a head as it was trained, with fresh weights.

        Args:
            head: its options.
            feature_dim: C, channels of the features.
            classes: as in :class:`Predictor`.
        """

    @abstractmethod
    def rows(self, features: VideoFeatures) -> list[Row]:
        """Find the actions of a video, by falling score of the segment."""
