"""Adam's state by parameter name, whatever the ZeRO stage: what makes a checkpoint independent of world size.

Stage 0 keeps whole moments in the torch optimizer. Stages 1 and 2 keep a flat partition on each rank, reached
through DeepSpeed's full-state helpers; those are collective (all ranks, same order), fail before the first
optimizer step, and never show Adam's step count, which is therefore read from the inner optimizer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pal_ds.training.engine import TrainEngine

_MOMENTS = ("exp_avg", "exp_avg_sq")
STEP_KEY = "adam_step"


def read_optimizer_state(engine: TrainEngine) -> dict[str, Tensor]:
    """Return ``<parameter>.exp_avg``, ``<parameter>.exp_avg_sq`` and ``adam_step`` as fp32 CPU tensors.

    Collective under ZeRO 1 and 2. Empty moments before the first applied step.
    """
    optimizer = engine.engine.optimizer
    inner = getattr(optimizer, "optimizer", optimizer)
    step = next((float(state["step"]) for state in inner.state.values() if "step" in state), 0.0)
    tensors: dict[str, Tensor] = {STEP_KEY: torch.tensor([step], dtype=torch.float64)}
    if step == 0:
        return tensors
    if inner is not optimizer:
        _link_partitions(optimizer)
    for name, parameter in engine.optimizer_params.items():
        for moment in _MOMENTS:
            value = _full_state(optimizer, inner, parameter, moment)
            tensors[f"{name}.{moment}"] = value.detach().float().cpu().reshape(parameter.shape).clone()
    return tensors


def write_optimizer_state(engine: TrainEngine, tensors: dict[str, Tensor]) -> None:
    """Put a state of :func:`read_optimizer_state` into the engine's optimizer, at any stage and world size.

    Raises:
        KeyError: the file lacks a parameter's moment, or holds one that this model lacks.
    """
    step = float(tensors[STEP_KEY].item())
    if step == 0:
        return
    expected = {f"{name}.{moment}" for name in engine.optimizer_params for moment in _MOMENTS} | {STEP_KEY}
    if expected != set(tensors):
        different = sorted(expected.symmetric_difference(tensors))
        raise KeyError(f"optimizer state and model differ in {len(different)} entries, e.g. {different[0]}")
    optimizer = engine.engine.optimizer
    inner = getattr(optimizer, "optimizer", optimizer)
    if inner is optimizer:
        for name, parameter in engine.optimizer_params.items():
            state = inner.state[parameter]
            state["step"] = torch.tensor(step, dtype=torch.float32, device=_step_device(inner, parameter))
            for moment in _MOMENTS:
                state[moment] = tensors[f"{name}.{moment}"].to(parameter.device, copy=True)
        return
    _create_partitioned_state(optimizer, inner)
    from deepspeed.utils import safe_set_full_optimizer_state

    for name, parameter in engine.optimizer_params.items():
        for moment in _MOMENTS:
            value = tensors[f"{name}.{moment}"].to(parameter.device)
            safe_set_full_optimizer_state(parameter, value, moment)
    for state in inner.state.values():
        state["step"].fill_(step)


def _full_state(optimizer: Any, inner: Any, parameter: Tensor, moment: str) -> Tensor:
    if inner is optimizer:
        value: Tensor = inner.state[parameter][moment]
        return value
    from deepspeed.utils import safe_get_full_optimizer_state

    full = safe_get_full_optimizer_state(parameter, moment)
    if full is None:
        raise RuntimeError(f"DeepSpeed gave no {moment} for a parameter of shape {tuple(parameter.shape)}")
    return torch.as_tensor(full)


def _step_device(inner: Any, parameter: Tensor) -> torch.device:
    """Fused and capturable Adam keep the step beside the parameter, the plain one on the CPU."""
    beside = any(group.get("fused") or group.get("capturable") for group in inner.param_groups)
    return parameter.device if beside else torch.device("cpu")


def _link_partitions(optimizer: Any) -> None:
    """Let parameters find their moments; DeepSpeed does so when only the first group has any."""
    optimizer._hp_optimizer_states_linked = False
    optimizer._lazy_init_hp_params_optimizer_state()


def _create_partitioned_state(optimizer: Any, inner: Any) -> None:
    """Make the lazy moments exist, by a step of zero gradients at learning rate 0, which changes no weight."""
    rates = [group["lr"] for group in inner.param_groups]
    partitions = optimizer.single_partition_of_fp32_groups
    before = [partition.detach().clone() for partition in partitions]
    for group, partition in zip(inner.param_groups, partitions, strict=True):
        group["lr"] = 0.0
        partition.grad = torch.zeros_like(partition)
    inner.step()
    for group, partition, rate, old in zip(inner.param_groups, partitions, rates, before, strict=True):
        group["lr"] = rate
        partition.grad = None
        partition.data.copy_(old)
    _link_partitions(optimizer)
