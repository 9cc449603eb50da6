"""What the training engine knows of a loss: views in, loss and staged keys out, one update a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.pretrained_weights import load_backbone_weights


@dataclass(kw_only=True)
class ViewBatch:
    """The synthetic videos of each sample, with the place of the sample's action in them.

    Attributes:
        query_bjcthw: float32, or half precision where that trains, normalised, [B, J, 3, T, H, W]: J = 8 clips of
            T = 8 frames.
        key_bjcthw: the other view, same shape; None where the objective has no use for one.
        query_region_b2: int64 [B, 2], (start, length) of the action region in clips.
        key_region_b2: the same for the key view.
        more_keys: clips and regions of further key views, more positives of the same query.
        labels_b: int64 [B] class ids, where the shard set is labelled.
        recordings_b: int64 [B], equal for clips cut from one recording; where the objective asks for it.
        places_b: int64 [B], place of each sample in its split, in global order; validation only.
        boundaries_b: int64 [B], what changes where the two parts of a video meet: a number of
            ``pal_ds.config.synthesis.BOUNDARIES``; where the views have such parts.
    """

    query_bjcthw: Tensor
    query_region_b2: Tensor
    key_bjcthw: Tensor | None = None
    key_region_b2: Tensor | None = None
    more_keys: tuple[tuple[Tensor, Tensor], ...] = ()
    labels_b: Tensor | None = None
    recordings_b: Tensor | None = None
    places_b: Tensor | None = None
    boundaries_b: Tensor | None = None

    @property
    def keys(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Clips and regions of every key view.

        Raises:
            ValueError: there is none.
        """
        if self.key_bjcthw is None or self.key_region_b2 is None:
            raise ValueError("synthesis.views = 1: this objective contrasts views; use at least 2")
        return ((self.key_bjcthw, self.key_region_b2), *self.more_keys)


@dataclass(frozen=True, kw_only=True)
class ContrastTerm:
    """Queries and their positives of a validation batch, to be contrasted with other samples of the whole pass.

    Attributes:
        query_md: [M, D], at least fp32.
        key_md: the positive of each query, [M, D].
        sample_m: int64 [M], the sample of the batch that each row is of.
        weight: factor of the term's mean loss in the objective's loss.
        temperature: tau.
        main: whether its hits are the objective's top-1.
    """

    query_md: Tensor
    key_md: Tensor
    sample_m: Tensor
    weight: float
    temperature: float
    main: bool = True


@dataclass(kw_only=True)
class ObjectiveOutput:
    """Result of one micro-batch.

    Attributes:
        loss: fp32 scalar, mean over B, with gradient in train mode. In eval mode of a contrastive objective:
            what of the loss needs no other sample; ``terms`` are the rest.
        staged: detached keys [B, D]. In train mode to be gathered in global sample order and handed to
            ``after_step`` once the optimizer has stepped, None where the objective keeps no queue. In eval mode
            what other samples of the pass are contrasted with.
        terms: in eval mode, what is to be contrasted; negatives are chosen by whoever has seen the whole pass.
        metrics: detached scalars, means over B.
        features: in eval mode, detached backbone features [B, C] of each sample's action, for a probe with
            labels; None in train mode.
        scores: in eval mode of an objective without contrast, what its loss and top-1 are the means of, [B] each,
            from which their errors are told; None where it does not say.
    """

    loss: Tensor
    staged: Tensor | None = None
    terms: tuple[ContrastTerm, ...] = ()
    features: Tensor | None = None
    scores: tuple[Tensor, Tensor] | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """A loss around a ``query_encoder`` whose ``backbone`` is what gets exported.

    Everything that must survive a restart is in ``state_dict()``. Parameters that require gradients are trained:
    those of ``query_encoder``, and of what else a loss learns beside it (the adversary of VideoMoCo).
    """

    query_encoder: nn.Module

    @classmethod
    def from_config(
        cls, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig, *, num_classes: int | None
    ) -> Objective:
        """Make it from a run's sections; an objective that takes others of them overrides this.

        Args:
            objective: which loss.
            model: network options.
            queue: memory options.
            num_classes: number of classes of a labelled shard set; None where there are no labels.

        Raises:
            ValueError: it can't be made for such a set.
        """
        del num_classes
        return cls(objective, model, queue)

    @classmethod
    def for_labels(
        cls,
        objective: ObjectiveConfig,
        model: ModelConfig,
        queue: QueueConfig,
        *,
        labels: tuple[str, ...] | None,
    ) -> Objective:
        """Make it for a shard set with these class names, or without any; by default their number is all it takes."""
        classes = None if labels is None else len(labels)
        return cls.from_config(objective, model, queue, num_classes=classes)

    def read_tables(self, read: Callable[[str], bytes]) -> None:
        """Read what the options name as files beside weights; called once, before any state is put in.

        Args:
            read: returns the bytes of a path or URL.

        Raises:
            ConfigError: a file is not what the option wants.
        """
        del read

    @abstractmethod
    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch. Changes neither queue nor key weights; in train mode BatchNorm updates."""

    @torch.no_grad()
    def after_step(
        self,
        staged_global: Tensor | None,
        recordings_global: Tensor | None = None,
        applied: Tensor | None = None,
    ) -> None:
        """Move what moves once per optimizer step; every rank passes the same tensors.

        Args:
            staged_global: staged keys in global sample order, [N, D].
            recordings_global: int64 [N], the recordings of these samples; None where nobody asked for them.
            applied: float scalar on the device, 0 where the step was left out, so that nothing moves; None is 1.
        """
        del staged_global, recordings_global, applied

    def warm_start(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Start from given backbone weights instead of random ones.

        Raises:
            WeightsError: the weights do not fit, see :func:`pal_ds.models.pretrained_weights.load_backbone_weights`.
        """
        load_backbone_weights(self.backbone, state, source=source)

    @property
    def backbone(self) -> nn.Module:
        """The query encoder's backbone."""
        backbone: nn.Module = self.query_encoder.get_submodule("backbone")
        return backbone

    @property
    def queue_fill(self) -> float:
        """Share of the queue that holds real keys; 1.0 where there is no queue. Reads the device."""
        return 1.0
