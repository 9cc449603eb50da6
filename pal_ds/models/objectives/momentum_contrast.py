"""What all objectives with a momentum encoder share: the copy, the queue, their one move per optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.layers.torch_compile import compile_backbone
from pal_ds.models.objectives.base import Objective
from pal_ds.models.ssl.batch_negatives import batch_negatives
from pal_ds.models.ssl.key_queue import KeyQueue
from pal_ds.models.ssl.momentum_encoder import MomentumUpdate, common_names, momentum_copy


class MomentumObjective(Objective):
    """A query encoder that trains, a key encoder that follows it, and negatives from a queue, the batch or both.

    Args:
        encoder: the query encoder; has a ``backbone``.
        objective: where negatives come from.
        model: momentum, compilation and embedding size.
        queue: size of the memory.
        key_parts: vectors of ``model.embedding_dim`` that make one queued key.
    """

    def __init__(
        self,
        encoder: nn.Module,
        objective: ObjectiveConfig,
        model: ModelConfig,
        queue: QueueConfig,
        *,
        key_parts: int = 1,
    ) -> None:
        super().__init__()
        self.options = objective
        self.model = model
        self.query_encoder = encoder
        self.key_encoder = momentum_copy(encoder)
        self._common = common_names(self.key_encoder, encoder)
        if self._common:
            module: Any = self
            module.register_state_dict_post_hook(_leave_out_common)
            module.register_load_state_dict_pre_hook(_put_in_common)
        self.momentum = MomentumUpdate(model.momentum, steps=model.momentum_steps)
        self.queue: KeyQueue | None = None
        if objective.negatives != "batch":
            self.queue = KeyQueue(
                queue.size,
                key_parts * model.embedding_dim,
                mask_unfilled=queue.mask_unfilled,
                recordings=not objective.same_recording_negatives,
            )
        if model.compile:
            compile_backbone(encoder.get_submodule("backbone"))
            compile_backbone(self.key_encoder.get_submodule("backbone"))

    def negatives(self, key_bd: Tensor, recordings_b: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the queries of a micro-batch are contrasted with, beside their own keys.

        Args:
            key_bd: this rank's keys.
            recordings_b: int64 [B], the recording each sample was cut from; needed with
                ``objective.same_recording_negatives=false``.

        Returns:
            Negatives [N, D] and what to leave out of them, bool [N] or [B, N], or None.

        Raises:
            ValueError: recordings are needed and not given.
        """
        apart = not self.options.same_recording_negatives
        if apart and recordings_b is None:
            raise ValueError("objective.same_recording_negatives=false needs the recordings of a batch")
        queued = None
        if self.queue is not None:
            queued = self.queue.keys, self.queue.excluded(recordings_b if apart else None)
        if queued is not None and self.options.negatives == "queue":
            return queued
        keys_nd, own_bn = batch_negatives(key_bd)
        if apart and recordings_b is not None:
            everyones_n1, _ = batch_negatives(recordings_b.unsqueeze(1))
            own_bn = own_bn | (recordings_b.unsqueeze(1) == everyones_n1.T)
        if queued is None:
            return keys_nd, own_bn
        queue_kd, excluded = queued
        if excluded is None:
            excluded = own_bn.new_zeros(len(queue_kd))
        excluded = torch.cat((excluded.expand(len(own_bn), -1), own_bn), dim=1)
        return torch.cat((queue_kd, keys_nd.to(queue_kd.dtype))), excluded

    def warm_start(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Start both encoders from given backbone weights; see :class:`Objective`."""
        super().warm_start(state, source=source)
        self.key_encoder.load_state_dict(self.query_encoder.state_dict())

    @torch.no_grad()
    def after_step(
        self,
        staged_global: Tensor | None,
        recordings_global: Tensor | None = None,
        applied: Tensor | None = None,
    ) -> None:
        """Move the key encoder once and enqueue the keys of the whole optimizer step once.

        Args:
            staged_global: staged keys of all ranks and micro-batches in global sample order, [N, D]; None
                only where there is no queue.
            recordings_global: int64 [N], the recordings of these keys, where the queue keeps them.
            applied: float scalar on the device, 0 where nothing is to move; None is 1.

        Raises:
            ValueError: keys are missing, or given without a queue to hold them.
        """
        if (self.queue is None) != (staged_global is None):
            raise ValueError("after_step takes the staged keys exactly where the objective has a queue")
        self.momentum.update(self.key_encoder, self.query_encoder, applied)
        if self.queue is not None and staged_global is not None:
            self.queue.enqueue(staged_global, recordings_global, applied)

    @property
    def queue_fill(self) -> float:
        """Share of the queue that holds real keys."""
        return 1.0 if self.queue is None else self.queue.fill


def _leave_out_common(module: Any, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    """Keep what both encoders have in common once, under the query encoder's name."""
    for name in module._common:
        del state[f"{prefix}key_encoder.{name}"]


def _put_in_common(module: Any, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    for name in module._common:
        query = state.get(f"{prefix}query_encoder.{name}")
        if query is not None:
            state[f"{prefix}key_encoder.{name}"] = query
