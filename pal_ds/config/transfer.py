"""Options of ``pal-transfer``: training and scoring a localization head on frozen features.

The files under ``configs/transfer/`` hold the settings of the paper's tables and of the heads' releases.
"""

from __future__ import annotations

import dataclasses

from pal_ds.config.base import ConfigError, check, option

HEADS = {"tad": ("gtad", "bmn", "actionformer"), "apg": ("bmn", "gtad", "actionformer"), "vg": ("lgi",)}
#: Heads that score a map of all candidate segments.
MAP_HEADS = ("gtad", "bmn")
#: What BMN's map convolutions run over: [duration, start] (the paper, mmaction2) or [start, end] (JJBOY).
LAYOUTS = ("duration-start", "start-end")
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
class HeadConfig:
    """The downstream model; channel numbers are the releases'."""

    name: str = option("gtad", "tad, apg: gtad, bmn or actionformer; vg: lgi")
    snippets: int = option(
        100, "T: input length; ActivityNet 100 (actionformer: 192), THUMOS'14 256 (2304), LGI 128"
    )
    durations: int = option(
        100, "D: longest candidate in snippets (gtad, bmn); ActivityNet 100, THUMOS'14 64"
    )
    hidden_1d: int = option(256, "channels of temporal layers (gtad, bmn)")
    hidden_2d: int = option(128, "channels of map convolutions (gtad, bmn)")
    hidden_3d: int = option(512, "channels after the sampled features are merged (gtad, bmn)")
    inner_bins: int = option(
        32, "bins of an aligned candidate (gtad); released: ActivityNet 32, THUMOS'14 16"
    )
    context_bins: int = option(
        4, "bins of its aligned semantic neighbours (gtad); released: ActivityNet 4, THUMOS'14 16"
    )
    map_kernel: int = option(
        3, "size of the inner map convolutions, odd (gtad); released: ActivityNet 1, THUMOS'14 3"
    )
    layout: str = option(
        "duration-start",
        "what map convolutions run over (bmn): duration-start (paper, mmaction2) or start-end (JJBOY's release)",
    )
    boundary_unit: tuple[float, float] = option(
        (-0.5, 0.5),
        "boundary i is labelled by the annotated starts or ends in i + these (gtad, bmn): -0.5, 0.5 (JJBOY's BMN); "
        "-0.5, 1.5 (G-TAD on ActivityNet, mmaction2's BMN); 0, 1 (G-TAD on THUMOS'14)",
    )
    overlap_weight: float = option(
        10.0, "weight of the regressed overlap's loss (gtad, bmn); G-TAD's release for THUMOS'14: 1"
    )
    match_weight: float = option(
        1.0, "weight of the match loss (gtad, bmn); G-TAD's release for THUMOS'14: 10"
    )
    match_prior: float = option(
        0.0, "added to the match loss's numbers of positives and negatives (gtad, bmn); G-TAD, THUMOS'14: 10"
    )
    weights: str = option(
        "",
        "weights of a release to start from (gtad, bmn): .pth, .pth.tar or .safetensors with the release's names; "
        "empty: fresh ones",
    )
    hidden: int = option(512, "channels throughout (lgi, actionformer)")
    word_dim: int = option(300, "channels of the word vectors (lgi)")
    words: int = option(10, "words of a sentence that are read (lgi)")
    phrases: int = option(3, "semantic phrases (lgi)")
    kernel: int = option(15, "temporal size of the local context block, odd (lgi)")
    dropout: float = option(
        0.5,
        "dropout of words, LSTM and segment embeddings (lgi), or in the transformer blocks (actionformer)",
    )
    levels: int = option(
        6, "levels of the feature pyramid, each half as long as the one before (actionformer)"
    )
    window: int = option(19, "moments that attention sees, odd (actionformer)")
    attention_heads: int = option(4, "heads of attention (actionformer)")

    def __post_init__(self) -> None:
        names = sorted({name for names in HEADS.values() for name in names})
        check(self.name in names, "head.name", self.name, f"use one of {', '.join(names)}")
        for name in ("snippets", "durations", "hidden_2d", "hidden_3d", "word_dim", "words", "phrases"):
            check(getattr(self, name) >= 1, f"head.{name}", getattr(self, name), "use at least 1")
        check(
            self.name not in MAP_HEADS or self.durations <= self.snippets,
            "head.durations",
            self.durations,
            f"use at most head.snippets = {self.snippets}",
        )
        for name in ("inner_bins", "context_bins"):
            check(getattr(self, name) >= 1, f"head.{name}", getattr(self, name), "use at least 1")
        check(
            self.map_kernel >= 1 and self.map_kernel % 2 == 1,
            "head.map_kernel",
            self.map_kernel,
            "use an odd number from 1 up",
        )
        check(self.layout in LAYOUTS, "head.layout", self.layout, f"use one of {', '.join(LAYOUTS)}")
        low, high = self.boundary_unit
        check(low < high, "head.boundary_unit", self.boundary_unit, "use two numbers, the lower one first")
        for name in ("overlap_weight", "match_weight", "match_prior"):
            check(getattr(self, name) >= 0, f"head.{name}", getattr(self, name), "use 0 or more")
        self._check_effect()
        check(self.hidden_1d % 4 == 0, "head.hidden_1d", self.hidden_1d, "use a multiple of 4 (groups)")
        check(self.hidden % 8 == 0, "head.hidden", self.hidden, "use a multiple of 8 (heads, directions)")
        check(self.kernel % 2 == 1, "head.kernel", self.kernel, "use an odd number")
        check(0 <= self.dropout < 1, "head.dropout", self.dropout, "use a share in [0, 1)")
        check(1 <= self.levels <= 10, "head.levels", self.levels, "use 1 to 10")
        check(self.window % 2 == 1, "head.window", self.window, "use an odd number")
        heads = self.attention_heads
        check(
            heads >= 1 and self.hidden % heads == 0,
            "head.attention_heads",
            heads,
            f"use a divisor of head.hidden = {self.hidden}",
        )

    def _check_effect(self) -> None:
        """Refuse an option of one kind of head that was set for another."""
        unset = {field.name: field.default for field in dataclasses.fields(self)}
        for names, heads in (
            (("inner_bins", "context_bins", "map_kernel"), ("gtad",)),
            (("layout",), ("bmn",)),
            (("boundary_unit", "overlap_weight", "match_weight", "match_prior", "weights"), MAP_HEADS),
        ):
            for name in names:
                check(
                    self.name in heads or getattr(self, name) == unset[name],
                    f"head.{name}",
                    getattr(self, name),
                    f"has no effect with head.name={self.name}; leave it at {unset[name]!r}",
                )


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
        "", "thresholds START:STOP:STEP of the evaluation; empty: the task's own (pal-eval --help)"
    )

    def __post_init__(self) -> None:
        check(
            self.head.name != "actionformer" or self.post.boundary == "none",
            "post.boundary",
            self.post.boundary,
            "has no effect with head.name=actionformer; set it to none",
        )

    def check_task(self, task: str) -> None:
        """Refuse a head that doesn't do the task.

        Raises:
            ConfigError: naming the heads that do.
        """
        if self.head.name not in HEADS[task]:
            raise ConfigError("head.name", self.head.name, f"task {task} takes {' or '.join(HEADS[task])}")
