"""The DeepSpeed engine around an objective, reduced to what a step needs (docs/design.md, "Training loop").

DeepSpeed does what it is best at: mixed precision, accumulation, ZeRO, gradient reduction. Its own
learning-rate schedulers, checkpoints, monitors and fp16/bf16 modes are never used; ``ds_config`` is generated
here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pal_ds.config import Config
from pal_ds.distributed.ranks import Ranks
from pal_ds.distributed.step_clock import CLOCK
from pal_ds.models import (
    BatchNormGuard,
    Objective,
    ObjectiveOutput,
    ViewBatch,
    batch_statistics,
    convert_sync_batchnorm,
)
from pal_ds.training.parameter_groups import SCALE, parameter_groups
from pal_ds.training.step_result import KnownVerdict, StepResult, Verdict

_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def generate_ds_config(config: Config, world_size: int) -> dict[str, Any]:
    """Return the engine's configuration, made from ours and from nothing else.

    Gradients are clipped here where the host need not wait for it; DeepSpeed would copy numbers to the device.
    """
    data = config.data
    document: dict[str, Any] = {
        "train_batch_size": data.global_batch,
        "train_micro_batch_size_per_gpu": data.global_batch // (data.accumulation * world_size),
        "gradient_accumulation_steps": data.accumulation,
        "gradient_clipping": 0.0 if _decides_on_device(config) else config.optimizer.clip,
        "zero_optimization": {"stage": config.zero_stage, "reduce_bucket_size": 50_000_000},
        "zero_allow_untested_optimizer": False,
        "steps_per_print": 1 << 60,
        "wall_clock_breakdown": False,
        # Its clock waits for the device at every forward pass and step; the trainer has one that does not.
        "timers": {"throughput": {"enabled": False}},
    }
    if config.precision in _AUTOCAST:
        document["torch_autocast"] = {"enabled": True, "dtype": _AUTOCAST[config.precision]}
    return document


def _decides_on_device(config: Config) -> bool:
    """Whether a step is left out by the device itself, so that the host learns of it later.

    ZeRO 1 and 2 and the loss scaler of fp16 decide on the host.
    """
    return config.zero_stage == 0 and config.precision != "fp16"


class TrainEngine:
    """One objective under DeepSpeed: forward, backward, and one guarded update per optimizer step.

    Args:
        objective: the loss; its state (weights, BN, queue) must already be what the run starts from.
        config: the run.
        ranks: this process; the process group must exist.

    Attributes:
        objective: the module inside the engine.
        optimizer_params: name to parameter of everything that is trained, in a fixed order.
    """

    def __init__(self, objective: Objective, config: Config, ranks: Ranks) -> None:
        import deepspeed
        from deepspeed.utils import logger as deepspeed_logger

        deepspeed_logger.setLevel(logging.WARNING)
        self._config = config
        self._ranks = ranks
        objective = objective.to(ranks.device)
        if ranks.world_size > 1:
            converted = convert_sync_batchnorm(objective)
            assert isinstance(converted, Objective)
            objective = converted
        self.objective = objective
        self.optimizer_params = {
            name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad
        }
        kind = torch.optim.AdamW if config.optimizer.name == "adamw" else torch.optim.Adam
        adam = kind(
            parameter_groups(objective, self.optimizer_params, config.optimizer),
            lr=config.optimizer.lr,
            betas=(config.optimizer.beta1, config.optimizer.beta2),
            eps=config.optimizer.eps,
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )
        engine, _, _, _ = deepspeed.initialize(
            model=objective,
            optimizer=adam,
            model_parameters=list(self.optimizer_params.values()),
            config=generate_ds_config(config, ranks.world_size),
            dist_init_required=False,
        )
        self._engine: Any = engine
        self._adam: Any = adam
        self._decides_on_device = _decides_on_device(config)
        assert not self._decides_on_device or engine.optimizer is adam, "DeepSpeed has wrapped the optimizer"
        if ranks.world_size == 1 and config.zero_stage == 0:
            # A reduction over one rank still copies all gradients into a bucket and back.
            engine.enable_backward_allreduce = False
        elif ranks.world_size > 1:
            # Gradients are where ranks meet last; DeepSpeed calls this on itself.
            engine.allreduce_gradients = CLOCK.around(
                engine.allreduce_gradients, on_gpu=ranks.device.type == "cuda"
            )
        self._broadcast_state()
        self._bn_guard = BatchNormGuard(objective)
        self._staged: list[Tensor] = []
        self._recordings: list[Tensor] = []
        self._all_finite: Tensor | None = None
        self._grads_checked = False

    @property
    def engine(self) -> Any:
        """The DeepSpeed engine, for the optimizer's state."""
        return self._engine

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the coming step."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate * group[SCALE]

    def begin_step(self) -> None:
        """Start an optimizer step: train mode, nothing staged, BN statistics remembered."""
        if not self.objective.training:
            self._engine.train()
        self._bn_guard.save()
        self._clear_staged()
        self._all_finite = None

    def abandon_step(self) -> None:
        """Undo a step that was begun and can't be finished (a rank has no batch)."""
        self._bn_guard.restore()
        self._clear_staged()

    def micro_step(self, batch: ViewBatch) -> ObjectiveOutput:
        """Run forward and backward of one micro-batch; the loss is divided by the accumulation inside."""
        output: ObjectiveOutput = self._engine(batch)
        finite = torch.isfinite(output.loss.detach())
        if output.staged is not None:
            finite = finite & torch.isfinite(output.staged).all()
            self._staged.append(output.staged)
            if batch.recordings_b is not None:
                self._recordings.append(batch.recordings_b)
        self._all_finite = finite if self._all_finite is None else self._all_finite & finite
        self._engine.backward(output.loss)
        if not self._grads_checked:
            self._check_gradients()
        boundary = self._engine.is_gradient_accumulation_boundary()
        if not boundary:
            self._engine.step()
        return output

    def finish_step(self) -> Verdict:
        """Agree over all ranks, then apply the step, or leave it out on every rank.

        The key encoder and the queue move here, once, and only with the weights (docs/design.md, "Objective and
        queue"). With ZeRO 0 in fp32 and bf16 the device decides, and the host waits for nothing.
        """
        verdict = self._step_by_device() if self._decides_on_device else KnownVerdict(self._step_by_host())
        self._clear_staged()
        return verdict

    @torch.no_grad()
    def _step_by_device(self) -> Verdict:
        assert self._all_finite is not None
        norm = self._zero0_norm().float()
        if self._config.optimizer.clip:
            parameters = list(self.optimizer_params.values())
            torch.nn.utils.clip_grads_with_norm_(parameters, self._config.optimizer.clip, norm)
        finite = self._all_finite.reshape(()) & torch.isfinite(norm)
        bad = self._ranks.maximum(finite.logical_not().float())
        # Adam's fused kernel leaves weights, moments and step numbers alone where this is 1.
        self._adam.found_inf = bad
        self._engine.step()
        staged, recordings = self._in_global_order(self._staged), self._in_global_order(self._recordings)
        self.objective.after_step(staged, recordings, 1 - bad)
        self._bn_guard.restore(where=bad)
        return Verdict(torch.stack((bad, norm)))

    def _step_by_host(self) -> StepResult:
        assert self._all_finite is not None
        norm = self._zero0_norm() if self._config.zero_stage == 0 else None
        numbers = [self._all_finite.logical_not().float()]
        if norm is not None:
            numbers.append(norm.float())
        verdict = self._ranks.maximum(torch.stack([number.reshape(()) for number in numbers])).tolist()
        bad = verdict[0] > 0
        result = self._zero0_step(bad, verdict[1]) if norm is not None else self._zero12_step(bad)
        if result.applied:
            self.objective.after_step(
                self._in_global_order(self._staged), self._in_global_order(self._recordings)
            )
        elif result.bad:
            self._bn_guard.restore()
        return result

    @torch.no_grad()
    def calibrate(self, batch: ViewBatch) -> None:
        """Take BatchNorm's running statistics from one training micro-batch (collective); nothing else moves.

        They start at mean 0 and variance 1, which no layer of an untrained network has, and later lag behind the
        weights. Training itself never reads them. The cost is one forward pass of a micro-batch. Statistics that
        are not finite are not taken.
        """
        if not self.objective.training:
            self._engine.train()
        self._bn_guard.save()
        with batch_statistics(self.objective):
            self._engine(batch)
        (bad,) = self._ranks.any(not self._bn_guard.finite())
        if bad:
            self._bn_guard.restore()

    @contextmanager
    def calibrated(self, batch: ViewBatch | None) -> Iterator[None]:
        """Within it, BatchNorm has the statistics of ``batch`` (collective); None leaves the running ones."""
        if batch is None:
            yield
            return
        self.calibrate(batch)
        try:
            yield
        finally:
            self._bn_guard.restore()

    def evaluate(self, batch: ViewBatch) -> ObjectiveOutput:
        """Return the loss of a batch in eval mode: BN frozen, nothing moves, no gradient."""
        # The engine hands its mode to the module and keeps no mode of its own.
        if self.objective.training:
            self._engine.eval()
        with torch.no_grad():
            output: ObjectiveOutput = self._engine(batch)
        return output

    def fingerprint(self) -> int:
        """Return a 62-bit digest of all weights, buffers and the queue, to compare ranks with."""
        total = torch.zeros((), dtype=torch.int64, device=self._ranks.device)
        for position, tensor in enumerate(self.objective.state_dict().values()):
            flat = tensor.detach().contiguous().flatten()
            bits = flat.view(torch.int32).long() if flat.dtype == torch.float32 else flat.long()
            weights = torch.arange(1, bits.numel() + 1, device=bits.device) * (2 * position + 3)
            total = total + (bits * weights).sum()
        return int(total.item()) & ((1 << 62) - 1)

    @property
    def scaler(self) -> Any:
        """The fp16 loss scaler (``torch.amp.GradScaler``), wherever this ZeRO stage keeps it; None without one."""
        if self._config.zero_stage == 0:
            return self._engine.torch_autocast_z0_gradscaler
        return self._engine.optimizer.torch_autocast_gradscaler

    def scaler_state(self) -> dict[str, Any] | None:
        """Return the loss scaler's state as JSON values."""
        return None if self.scaler is None else dict(self.scaler.state_dict())

    def load_scaler_state(self, state: dict[str, Any] | None) -> None:
        """Put a state of :meth:`scaler_state` back; nothing to do in another precision than fp16."""
        if self.scaler is not None and state is not None:
            self.scaler.load_state_dict(state)

    def _zero0_norm(self) -> Tensor:
        grads = [parameter.grad for parameter in self.optimizer_params.values() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        return norm if self.scaler is None else norm / self.scaler.get_scale()

    def _zero0_step(self, bad: bool, norm: float) -> StepResult:
        finite = math.isfinite(norm)
        overflow = self.scaler is not None and not bad and not finite
        if not bad and (finite or overflow):
            self._engine.step()
        else:
            # Adam would apply NaN: the engine's step is left out, its micro-step count goes on.
            self._engine.optimizer.zero_grad(set_to_none=True)
            self._engine.micro_steps += 1
            bad = True
        return StepResult(not bad and not overflow, bad, overflow, norm if finite else math.nan)

    def _zero12_step(self, bad: bool) -> StepResult:
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        self._engine.step()
        skipped = bool(self._engine.optimizer.overflow)
        if bad and not skipped:
            raise RuntimeError(
                "ZeRO applied a step although a rank's loss was not finite; state is not trusted"
            )
        overflow = skipped and not bad and self.scaler is not None
        if overflow:
            # ZeRO leaves its step before the scaler hears of the overflow, so the scale would never fall.
            self.scaler.update(scale * self.scaler.get_backoff_factor())
        norm = math.nan if skipped else float(self._engine.get_global_grad_norm()) / scale
        return StepResult(not skipped, skipped and not overflow, overflow, norm)

    def _clear_staged(self) -> None:
        self._staged.clear()
        self._recordings.clear()

    def _in_global_order(self, parts: list[Tensor]) -> Tensor | None:
        """Return a step's rows, of all micro-steps and ranks, in global sample order [global batch, ...]."""
        if not parts:
            return None
        gathered_wab = self._ranks.gather(torch.stack(parts))
        return gathered_wab.transpose(0, 1).flatten(0, 2)

    def _broadcast_state(self) -> None:
        """Give every rank rank 0's buffers; the engine broadcasts parameters only."""
        if self._ranks.world_size > 1:
            for tensor in self.objective.state_dict().values():
                dist.broadcast(tensor, 0)

    def _check_gradients(self) -> None:
        """After the first backward, every trained parameter must have had a gradient."""
        self._grads_checked = True
        if self._config.zero_stage == 0:
            missing = [name for name, parameter in self.optimizer_params.items() if parameter.grad is None]
            if missing:
                raise RuntimeError(f"parameters without gradient: {', '.join(missing[:5])}")
