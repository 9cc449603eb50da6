"""Every option of a run: typed, validated and documented where it is declared; YAML in and out.

:func:`load_config` is the entry point; the sections live in :mod:`run`, :mod:`data` and :mod:`model`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from pal_ds.config.base import ConfigError, check, option
from pal_ds.config.data import DataConfig
from pal_ds.config.encoder_checks import check_colours, check_input
from pal_ds.config.encoders import encoder_of
from pal_ds.config.loading import apply_overrides, build, describe, load_tree, to_tree, to_yaml
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig, check_objective, check_views
from pal_ds.config.run import (
    PRECISIONS,
    CheckpointConfig,
    LogConfig,
    OptimizerConfig,
    RunSection,
    SafetyConfig,
    ScheduleConfig,
    ValidationConfig,
)
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "LogConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "QueueConfig",
    "RunSection",
    "SafetyConfig",
    "ScheduleConfig",
    "SynthesisConfig",
    "ValidationConfig",
    "config_from_tree",
    "describe",
    "load_config",
    "to_tree",
    "to_yaml",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A whole pre-training run (docs/formats.md, "Run folder")."""

    run: RunSection
    data: DataConfig
    synthesis: SynthesisConfig
    augment: AugmentConfig
    objective: ObjectiveConfig
    model: ModelConfig
    queue: QueueConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    validation: ValidationConfig
    checkpoint: CheckpointConfig
    log: LogConfig
    safety: SafetyConfig
    precision: str = option(
        "bf16", "arithmetic of the forward pass: fp32, bf16 or fp16 (autocast; weights stay fp32)"
    )
    zero_stage: int = option(0, "ZeRO stage 0, 1 or 2; the whole state is 0.2 GB, so 0 is the default")

    def __post_init__(self) -> None:
        shards = self.data.shards
        check(bool(shards), "data.shards", shards, "give the URL of a shard set made by pal-shard build")
        check(
            self.precision in PRECISIONS, "precision", self.precision, f"use one of {', '.join(PRECISIONS)}"
        )
        check(
            self.zero_stage in (0, 1, 2),
            "zero_stage",
            self.zero_stage,
            "use 0, 1 or 2: stage 3 would shard the key encoder apart from the query encoder that it follows; "
            "for an encoder too large for that use model.lora_rank or model.frozen_stages, which share it",
        )
        check(
            not (self.precision == "fp16" and self.zero_stage > 0 and self.optimizer.clip > 0),
            "optimizer.clip",
            self.optimizer.clip,
            "ZeRO 1 and 2 would clip fp16 gradients before unscaling them; use zero_stage=0, bf16, or clip=0",
        )
        check(
            self.safety.watchdog_seconds > self.data.retry_seconds,
            "safety.watchdog_seconds",
            self.safety.watchdog_seconds,
            f"would end the job while reads are still tried again; use more than data.retry_seconds = "
            f"{self.data.retry_seconds:g}",
        )
        check_objective(self.objective, self.model, self.queue)
        check_views(self.objective, self.synthesis, self.data.group_size)
        if self.model.encoder:
            self._fit_encoder()
        else:
            check(
                self.optimizer.layer_decay == 1,
                "optimizer.layer_decay",
                self.optimizer.layer_decay,
                f"needs the blocks of an encoder of transformers, not {self.model.backbone}; remove it",
            )
        plateau = self.schedule.name == "plateau"
        check(
            not plateau or self.validation.wanted,
            "schedule.name",
            self.schedule.name,
            "a plateau schedule needs validation.every_epochs or validation.every_steps above 0",
        )

    def _fit_encoder(self) -> None:
        """Check clips against the encoder of ``transformers``, and take the colours that it was made with."""
        encoder, usual = encoder_of(self.model.encoder), AugmentConfig()
        check_input(encoder, self.synthesis.clip_frames, self.synthesis.size)
        mean, std = (
            check_colours(encoder, name, getattr(self.augment, name), getattr(usual, name))
            for name in ("mean", "std")
        )
        object.__setattr__(self, "augment", dataclasses.replace(self.augment, mean=mean, std=std))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Load a run's config from a YAML file and ``section.key=value`` words.

    Args:
        path: the YAML file, or the name of a shipped config; a file may name another as its ``base``.
        overrides: words laid over the file, in order.

    Raises:
        ConfigError: one line naming the field, its value and the fix.
    """
    return build(Config, apply_overrides(load_tree(path), overrides))


def config_from_tree(tree: dict[str, object]) -> Config:
    """Build a config from the plain dict in a checkpoint's ``state.json``.

    Raises:
        ConfigError: it does not fit this version's options.
    """
    return build(Config, tree)
