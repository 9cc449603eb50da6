"""The sections that concern a run itself: place, optimizer, schedule, safety, logs."""

from __future__ import annotations

import dataclasses
from urllib.parse import SplitResult, urlsplit

from pal_ds.config.base import check, option

PRECISIONS = ("fp32", "bf16", "fp16")
DEVICES = ("auto", "cuda", "cpu")


#: Default of ``log.straggler_rows``.
_STRAGGLER_ROWS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSection:
    """Where a run lives and how long it goes on (docs/formats.md, "Run folder")."""

    dir: str = option(
        "", "folder URL of the run: logs, status and checkpoints (file path, s3://, gs://)", fixed=False
    )
    seed: int = option(0, "every random draw of the run is a function of it", fixed=True)
    epochs: int = option(200, "passes over the training split (paper §4.1: 200)", fixed=False)
    max_steps: int | None = option(
        None, "stop after this many optimizer steps, if earlier than run.epochs", fixed=False
    )
    device: str = option(
        "auto",
        "auto: a GPU where the machine has one, and an error where it has one that torch can't use; cuda; or cpu: "
        "the CPU, GPU or not",
        fixed=False,
    )
    deterministic: bool = option(
        False,
        "the same bits from the same start on one kind of GPU: no operator that adds in an arbitrary order, and no "
        "cuDNN benchmark; slower. Off, two runs on a GPU differ in the last bits; on a CPU they are equal either way",
        fixed=False,
    )
    cudnn_benchmark: bool = option(
        True,
        "let cuDNN time its algorithms at the first step of each shape and take the fastest; off under "
        "run.deterministic",
        fixed=False,
    )
    tf32: bool = option(
        True,
        "let a GPU round what fp32 matrix products and convolutions multiply to TF32; false is exact fp32",
        fixed=False,
    )

    def __post_init__(self) -> None:
        check(
            bool(self.dir), "run.dir", self.dir, "give the run a folder, e.g. run.dir=s3://bucket/runs/pal-1"
        )
        check(self.device in DEVICES, "run.device", self.device, f"use one of {', '.join(DEVICES)}")
        check(self.seed >= 0, "run.seed", self.seed, "use a whole number from 0 up")
        check(self.epochs >= 1, "run.epochs", self.epochs, "use at least 1")
        check(
            self.max_steps is None or self.max_steps >= 1,
            "run.max_steps",
            self.max_steps,
            "use at least 1, or leave it out",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam with coupled L2 weight decay, as in the paper, or AdamW."""

    name: str = option(
        "adam", "adam (the paper's: weight decay is added to the gradient) or adamw (to the update)"
    )
    lr: float = option(
        1e-4,
        "learning rate at the start (paper §4.1: 1e-4); 0 moves nothing: the control of a run that learns",
    )
    weight_decay: float = option(
        1e-5, "weight decay: added to the gradient by adam (paper §4.1: 1e-5), apart from it by adamw"
    )
    decay: str = option(
        "all", "what weight decay pulls at: all, or matrices (linear layers and convolutions, without biases)"
    )
    layer_decay: float = option(
        1.0,
        "hf only: factor on the learning rate for every block that lies behind a parameter; 1 is one rate",
    )
    beta1: float = option(0.9, "decay of Adam's first moment")
    beta2: float = option(0.999, "decay of Adam's second moment")
    eps: float = option(1e-8, "Adam's denominator offset")
    clip: float = option(0.0, "clip the global gradient norm to this; 0 is off (as in the paper)")

    def __post_init__(self) -> None:
        check(self.name in ("adam", "adamw"), "optimizer.name", self.name, "use adam or adamw")
        check(self.decay in ("all", "matrices"), "optimizer.decay", self.decay, "use all or matrices")
        check(
            self.decay == "all" or self.weight_decay > 0,
            "optimizer.decay",
            self.decay,
            "has no effect without optimizer.weight_decay; remove it",
        )
        check(
            0 < self.layer_decay <= 1,
            "optimizer.layer_decay",
            self.layer_decay,
            "use a factor above 0, at most 1",
        )
        check(self.lr >= 0, "optimizer.lr", self.lr, "use 0 (a control) or a value above it, e.g. 1e-4")
        check(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "use 0 or more")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            check(0 <= value < 1, f"optimizer.{name}", value, "use a value in [0, 1)")
        check(self.eps > 0, "optimizer.eps", self.eps, "use a value above 0, e.g. 1e-8")
        check(self.clip >= 0, "optimizer.clip", self.clip, "use 0 (off) or a norm above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate falls; stepped by this project, never by the engine (docs/design.md, "Training loop")."""

    name: str = option(
        "plateau", "plateau (paper: lr/10 when the validation loss saturates), step, cosine, constant"
    )
    factor: float = option(0.1, "plateau, step: the learning rate is multiplied by it")
    patience: int = option(5, "plateau: validations without improvement that are borne")
    threshold: float = option(1e-4, "plateau: relative improvement that counts as one")
    cooldown: int = option(0, "plateau: validations after a cut that are not counted")
    milestones: tuple[int, ...] = option(
        (), "step: epochs at which the learning rate is cut, e.g. [120, 160]"
    )
    min_lr: float = option(0.0, "lower bound of the learning rate")
    warmup_steps: int = option(0, "optimizer steps of linear warm-up from 0")

    def __post_init__(self) -> None:
        names = ("plateau", "step", "cosine", "constant")
        check(self.name in names, "schedule.name", self.name, f"use one of {', '.join(names)}")
        check(0 < self.factor < 1, "schedule.factor", self.factor, "use a value between 0 and 1, e.g. 0.1")
        check(self.patience >= 0, "schedule.patience", self.patience, "use 0 or more validations")
        check(self.threshold >= 0, "schedule.threshold", self.threshold, "use 0 or more")
        check(self.cooldown >= 0, "schedule.cooldown", self.cooldown, "use 0 or more validations")
        check(self.min_lr >= 0, "schedule.min_lr", self.min_lr, "use 0 or more")
        check(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "use 0 or more steps")
        ascending = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        check(ascending, "schedule.milestones", self.milestones, "list epochs in ascending order")
        given = self.name == "step"
        check(
            given == bool(self.milestones),
            "schedule.milestones",
            self.milestones,
            "schedule.name=step needs milestones, e.g. [120, 160]"
            if given
            else "only schedule.name=step has them",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """InfoNCE over the ``val`` split with fixed draws and negatives from the split itself."""

    every_epochs: int = option(1, "epochs between validations; 0 is off")
    every_steps: int = option(0, "validate every so many optimizer steps instead of epochs; 0 is off")
    batch_statistics: bool = option(
        True,
        "validate with the BatchNorm statistics of the latest training micro-batch, at the cost of one more forward "
        "pass of it; false: with the running ones, which lag behind the weights while these move fast",
    )
    probe_every: int = option(
        0, "at every so many validations, ask nearest neighbours for the labels of a labelled set; 0 is off"
    )

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps", "probe_every"):
            value = getattr(self, name)
            check(value >= 0, f"validation.{name}", value, "use 0 or more")
        check(
            self.wanted or not self.probe_every,
            "validation.probe_every",
            self.probe_every,
            "probes are part of validations: needs validation.every_epochs or validation.every_steps above 0",
        )

    @property
    def wanted(self) -> bool:
        """Whether any validation is asked for."""
        return bool(self.every_epochs or self.every_steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved and how much is kept (docs/formats.md, "Checkpoint")."""

    every_steps: int = option(500, "optimizer steps between checkpoints; the last step is always saved")
    keep_last: int = option(3, "the newest so many checkpoints are kept")
    keep_every: int = option(0, "checkpoints at multiples of so many steps are kept for good; 0 is none")
    asynchronous: bool = option(True, "upload in the background while training goes on")
    save_patience_minutes: float = option(60.0, "train on for so long while saving keeps failing, then stop")

    def __post_init__(self) -> None:
        check(self.every_steps >= 1, "checkpoint.every_steps", self.every_steps, "use at least 1")
        check(self.keep_last >= 1, "checkpoint.keep_last", self.keep_last, "keep at least 1")
        check(self.keep_every >= 0, "checkpoint.keep_every", self.keep_every, "use 0 (none) or a step count")
        check(
            self.save_patience_minutes >= 0,
            "checkpoint.save_patience_minutes",
            self.save_patience_minutes,
            "use 0 or more minutes",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is written while training (docs/formats.md, "Run folder")."""

    every_steps: int = option(10, "optimizer steps between rows of metrics.jsonl and console lines")
    tensorboard: bool = option(True, "write the same scalars as TensorBoard events")
    upload_seconds: float = option(30.0, "object stores only: seconds between uploads of the logs")
    wandb: str = option(
        "", "Weights & Biases project for the same rows (needs pip install wandb); empty is off"
    )
    mlflow: str = option(
        "",
        "MLflow experiment for the same rows (needs mlflow-skinny and MLFLOW_TRACKING_URI); empty is off",
    )
    prometheus: str = option(
        "",
        "local file NAME.prom, or folder for pal_<run>.prom, in which the latest row is kept as Prometheus text, "
        "e.g. the folder of node_exporter's textfile collector on rank 0's host; empty is off",
    )
    webhook: str = option(
        "",
        "URL that gets a JSON object (POST) when the run's state changes; env:NAME reads it from a variable of "
        "rank 0, so that no file holds it; empty is off",
    )
    straggler_factor: float = option(
        1.5, "tell of a rank whose own time in logged steps is so many times the median rank's; 0 is off"
    )
    straggler_rows: int = option(
        _STRAGGLER_ROWS, "log rows in a row after which it is told (event straggler)"
    )

    def __post_init__(self) -> None:
        check(self.every_steps >= 1, "log.every_steps", self.every_steps, "use at least 1")
        check(self.upload_seconds > 0, "log.upload_seconds", self.upload_seconds, "use more than 0 seconds")
        check(
            "://" not in self.prometheus,
            "log.prometheus",
            self.prometheus.rsplit("@", 1)[-1],
            "collectors read local files; give a path, e.g. /var/lib/node_exporter/textfile",
        )
        check_webhook(self.webhook)
        check(
            self.straggler_factor == 0 or self.straggler_factor > 1,
            "log.straggler_factor",
            self.straggler_factor,
            "use 0 (off) or a factor above 1",
        )
        check(self.straggler_rows >= 1, "log.straggler_rows", self.straggler_rows, "use at least 1")
        check(
            self.straggler_factor > 0 or self.straggler_rows == _STRAGGLER_ROWS,
            "log.straggler_rows",
            self.straggler_rows,
            "has no effect with log.straggler_factor=0, which is off: leave one out",
        )


def check_webhook(value: str) -> None:
    """Refuse what is no URL to call, and URLs with credentials, which ``config.yaml`` would hold.

    Raises:
        ConfigError: its message shows scheme and host alone.
    """
    if not value or (value.startswith("env:") and value.removeprefix("env:").isidentifier()):
        return
    try:
        parts = urlsplit(value)
    except ValueError:  # brackets without an address
        parts = SplitResult("", "", "", "", "")
    shown = f"{parts.scheme}://{parts.hostname or ''}/…" if "://" in value else "…"
    check(
        parts.scheme in ("http", "https") and bool(parts.hostname),
        "log.webhook",
        shown,
        "give an http:// or https:// URL, or env:NAME of the variable that holds one",
    )
    check(
        not parts.query and not parts.username and not parts.password,
        "log.webhook",
        shown,
        "its user or query would stand in config.yaml and checkpoints; put it into a variable and give env:NAME",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """When a run stops by itself (docs/design.md, "Failures and signals")."""

    max_skipped_steps: int = option(5, "stop after so many NaN/Inf steps in a row")
    watchdog_seconds: float = option(
        900.0, "a rank that makes no progress for so long ends the job; above data.retry_seconds"
    )

    def __post_init__(self) -> None:
        check(
            self.max_skipped_steps >= 1, "safety.max_skipped_steps", self.max_skipped_steps, "use at least 1"
        )
        check(self.watchdog_seconds > 0, "safety.watchdog_seconds", self.watchdog_seconds, "use more than 0")
