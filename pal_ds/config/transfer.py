"""Options of ``pal-transfer``: training and scoring a localization head on frozen features.

The files under ``configs/transfer/`` hold the settings of the paper's tables and of the heads' releases.
"""

from __future__ import annotations

import dataclasses

from pal_ds.config.base import check, option
from pal_ds.config.datasets import DATASETS
from pal_ds.config.heads import HeadConfig, check_head, check_task

SHAPES = ("rescale", "windows")
BOUNDARIES = ("none", "peaks", "product")
SELECT = ("last", "loss", "metric")
DEVICES = ("auto", "cpu", "cuda")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferRun:
    """Where a run lives and how long it goes on."""

    dir: str = option("", "folder URL of the run: config, logs, checkpoints, predictions, result")
    seed: int = option(0, "every random draw of the run is a function of it and the epoch")
    epochs: int = option(10, "passes over the training items")
    device: str = option("auto", "auto (CUDA where there is one), cpu or cuda")
    select: str = option(
        "last",
        "which epoch is reported: last, loss (lowest loss on the evaluated subset) or metric (best score on the "
        "evaluated subset, as LGI's release does: it selects on what it reports)",
    )
    evaluate_every: int = option(
        0, "epochs between evaluations; 0: after the last only, or each where needed"
    )
    keep_checkpoints: int = option(2, "newest epochs whose checkpoints are kept, at least 1")

    def __post_init__(self) -> None:
        check(bool(self.dir), "run.dir", self.dir, "give the run a folder, e.g. run.dir=runs/tad")
        check(self.seed >= 0, "run.seed", self.seed, "use a whole number from 0 up")
        check(self.epochs >= 1, "run.epochs", self.epochs, "use at least 1")
        check(self.device in DEVICES, "run.device", self.device, f"use one of {', '.join(DEVICES)}")
        check(self.select in SELECT, "run.select", self.select, f"use one of {', '.join(SELECT)}")
        check(self.evaluate_every >= 0, "run.evaluate_every", self.evaluate_every, "use 0 or more")
        check(self.keep_checkpoints >= 1, "run.keep_checkpoints", self.keep_checkpoints, "use at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferData:
    """Features, annotations, and how a video becomes the head's input."""

    features: str = option("", "folder URL of v_<id>.npy and their v_<id>.json, as pal-extract writes them")
    evaluate_features: str = option("", "the same for the evaluated subset; empty: data.features")
    dataset: str = option(
        "",
        f"tad, apg: benchmark whose annotations are given, as distributed: {', '.join(DATASETS)}; it fixes the "
        "thresholds of the evaluation too; empty: the official JSON form of ActivityNet, or a TSP list (.csv)",
    )
    annotations: str = option("", "ground truth: official JSON; vg: charades_sta_train.txt or JSON")
    evaluate_annotations: str = option("", "ground truth of the evaluated subset; empty: data.annotations")
    train_subset: str = option("training", "subset of the JSON to train on; no effect on .csv and .txt files")
    evaluate_subset: str = option("validation", "subset of the JSON to score on; no effect on .csv and .txt")
    shape: str = option(
        "rescale",
        "rescale: a whole video is interpolated to head.snippets (ActivityNet); windows: windows of head.snippets "
        "features, half overlapping (THUMOS'14)",
    )
    every: int = option(1, "windows only: keep each n-th feature")
    missing: float = option(
        0.05, "share of annotated videos that may lack features before the run is refused"
    )
    class_scores: str = option(
        "",
        'tad: video-level class scores, {"results": {video: [{label, score}]}} or the CUHK form; empty: a linear '
        "classifier of annotated segments, trained on the same features, labels each proposal",
    )

    def __post_init__(self) -> None:
        check(
            bool(self.features),
            "data.features",
            self.features,
            "give the folder that pal-extract wrote",
        )
        if self.dataset:
            DATASETS.choose(self.dataset)
        check(bool(self.annotations), "data.annotations", self.annotations, "give the ground-truth file")
        check(self.shape in SHAPES, "data.shape", self.shape, f"use one of {', '.join(SHAPES)}")
        check(self.every >= 1, "data.every", self.every, "use at least 1")
        check(
            self.every == 1 or self.shape == "windows",
            "data.every",
            self.every,
            "has an effect with data.shape=windows only; leave it at 1",
        )
        check(0 <= self.missing < 1, "data.missing", self.missing, "use a share in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferOptimizer:
    """Adam and its steps."""

    lr: float = option(4e-3, "learning rate at the start")
    weight_decay: float = option(1e-4, "L2 coefficient added to the gradient")
    batch: int = option(16, "items a step")
    drop_after: tuple[int, ...] = option(
        (5,), "epochs after which the learning rate is multiplied by drop_factor"
    )
    drop_factor: float = option(0.1, "see drop_after")
    decoupled: bool = option(False, "AdamW: weight decay beside the gradient instead of in it")
    clip: float = option(0.0, "clip the global gradient norm to this; 0 is off")

    def __post_init__(self) -> None:
        check(self.lr > 0, "optimizer.lr", self.lr, "use a value above 0")
        check(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "use 0 or more")
        check(self.batch >= 1, "optimizer.batch", self.batch, "use at least 1")
        check(
            all(epoch >= 1 for epoch in self.drop_after),
            "optimizer.drop_after",
            self.drop_after,
            "use epochs from 1 up",
        )
        check(0 < self.drop_factor <= 1, "optimizer.drop_factor", self.drop_factor, "use a factor in (0, 1]")
        check(self.clip >= 0, "optimizer.clip", self.clip, "use 0 (off) or a norm above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostConfig:
    """From maps to scored segments (tad, apg)."""

    boundary: str = option(
        "peaks",
        "which candidates: none: all, by overlap times match; peaks: those between boundary peaks (G-TAD, "
        "ActivityNet); "
        "product: all, times both boundary probabilities (BMN)",
    )
    sigma: float = option(0.8, "width of the Gaussian of soft-NMS")
    low: float = option(0.0, "soft-NMS lowers overlaps above low + (high - low) * length only (BMN: 0.5)")
    high: float = option(0.0, "see low (BMN: 0.9); lengths are shares of the video or window")
    keep: int = option(100, "proposals kept for a video")
    longest_seconds: float = option(
        0.0, "drop longer candidates; 0 is off (G-TAD, THUMOS'14: 10, i.e. 300 frames)"
    )
    classes: int = option(2, "tad: how many of the best video-level classes label each proposal")

    def __post_init__(self) -> None:
        check(
            self.boundary in BOUNDARIES, "post.boundary", self.boundary, f"use one of {', '.join(BOUNDARIES)}"
        )
        check(self.sigma > 0, "post.sigma", self.sigma, "use a value above 0")
        check(0 <= self.low <= self.high <= 1, "post.low", self.low, "use 0 <= low <= high <= 1")
        check(self.keep >= 1, "post.keep", self.keep, "use at least 1")
        check(
            self.longest_seconds >= 0, "post.longest_seconds", self.longest_seconds, "use 0 (off) or seconds"
        )
        check(self.classes >= 1, "post.classes", self.classes, "use at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """A whole downstream run."""

    run: TransferRun
    data: TransferData
    head: HeadConfig
    optimizer: TransferOptimizer
    post: PostConfig
    tiou: str = option(
        "",
        "thresholds START:STOP:STEP of the evaluation; empty: data.dataset's, else the task's own (pal-eval --help)",
    )

    def __post_init__(self) -> None:
        check_head(self.head, {"data": self.data, "post": self.post})

    def check_task(self, task: str) -> None:
        """Refuse a head that doesn't do the task, and options that the task ignores.

        Raises:
            ConfigError: naming the heads that do, or the option.
        """
        check_task(task, self.head, {"data": self.data, "post": self.post})
