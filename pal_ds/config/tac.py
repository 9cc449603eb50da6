"""Options of ``pal-transfer --task tac``: fine-tuning a backbone on trimmed, labelled videos (Table 7)."""

from __future__ import annotations

import dataclasses

from pal_ds.config.base import check, option
from pal_ds.config.transfer import TransferOptimizer, TransferRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class TacData:
    """A shard set built ``--with-labels``, and how clips are taken from its videos."""

    shards: str = option("", "folder URL of a shard set built with labels (pal-shard build --with-labels)")
    train_split: str = option("train", "split to train on")
    evaluate_split: str = option("val", "split to score on")
    stride: int = option(4, "frames between two frames of a clip; less where a video is too short")
    clips: int = option(10, "clips of a video, evenly spaced, whose probabilities are averaged in evaluation")
    smallest: float = option(0.4, "smallest random crop in training, as a share of the picture's area")
    workers: int = option(4, "processes that read and decode; 0 decodes in the training process")

    def __post_init__(self) -> None:
        check(bool(self.shards), "data.shards", self.shards, "give a shard set with labels")
        for name in ("stride", "clips"):
            check(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "use at least 1")
        check(0 < self.smallest <= 1, "data.smallest", self.smallest, "use a share in (0, 1]")
        check(self.workers >= 0, "data.workers", self.workers, "use 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TacModel:
    """The backbone that is fine-tuned, and its classifier."""

    backbone: str = option(
        "",
        "RUN folder, checkpoint or exported backbone.safetensors to start from; random:NAME starts from nothing",
    )
    dropout: float = option(0.5, "share of the features dropped before the classifier")
    frozen: bool = option(False, "train the classifier only (linear probe); BatchNorm stays as it is")

    def __post_init__(self) -> None:
        check(
            bool(self.backbone), "model.backbone", self.backbone, "give weights, or random:i3d for a baseline"
        )
        check(0 <= self.dropout < 1, "model.dropout", self.dropout, "use a share in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TacConfig:
    """A whole fine-tuning run."""

    run: TransferRun
    data: TacData
    model: TacModel
    optimizer: TransferOptimizer
