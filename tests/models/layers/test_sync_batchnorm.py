"""Joint BatchNorm equals BatchNorm over the whole batch, on two real ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pal_ds.models import convert_sync_batchnorm
from pal_ds.models.layers.sync_batchnorm import AllReduceBatchNorm
from tests.support import cuda_batchnorm
from tests.support.rank_pool import RankPool

CHANNELS = 5
#: Where each rank's samples begin, and where the last one's end.
SPLITS = {"even": [0, 4, 8], "uneven": [0, 1, 6], "first empty": [0, 0, 5], "last empty": [0, 5, 5]}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"affine": False},
    {"momentum": None},
    {"track_running_stats": False},
    {"eps": 1e-3, "momentum": 0.3},
]


def make_norm(options: dict[str, Any], dtype: torch.dtype) -> nn.BatchNorm3d:
    torch.manual_seed(1)
    norm = nn.BatchNorm3d(CHANNELS, **options)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm.to(dtype)


def make_input(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, CHANNELS, 2, 3, 3)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 7
    return inputs, torch.randn(shape, generator=generator, dtype=torch.float64)


def run_two_steps(
    norm: nn.Module, start: int, stop: int, total: int, dtype: torch.dtype, *, channels_last: bool = False
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for seed in range(2):
        inputs, weights = (part[start:stop].to(dtype) for part in make_input(total, seed))
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        inputs.requires_grad_()
        norm.zero_grad()
        outputs = norm(inputs)
        (outputs * weights).sum().backward()
        found[f"output{seed}"] = outputs.detach().double().numpy()
        found[f"dx{seed}"] = inputs.grad.double().numpy()
        for name, parameter in norm.named_parameters():
            found[f"grad_{name}{seed}"] = parameter.grad.double().numpy().copy()
    found |= {name: value.double().numpy().copy() for name, value in norm.named_buffers()}
    return found


def on_rank(
    rank: int, options: dict[str, Any], splits: list[int], dtype_name: str, channels_last: bool
) -> dict[str, np.ndarray]:
    dtype = getattr(torch, dtype_name)
    norm = convert_sync_batchnorm(make_norm(options, dtype))
    assert isinstance(norm, AllReduceBatchNorm)
    return run_two_steps(norm, splits[rank], splits[rank + 1], splits[-1], dtype, channels_last=channels_last)


def on_rank_with_kernels(rank: int, *args: Any) -> dict[str, np.ndarray]:
    """As on CUDA, whose kernels are rewritten for the CPU in ``cuda_batchnorm.py``."""
    with cuda_batchnorm.kernels():
        return on_rank(rank, *args)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("splits", list(SPLITS.values()), ids=list(SPLITS))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-4)])
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_two_ranks_equal_the_whole_batch(
    rank_pool: RankPool,
    options: dict[str, Any],
    splits: list[int],
    dtype: str,
    tolerance: float,
    channels_last: bool,
) -> None:
    whole = run_two_steps(make_norm(options, torch.float64), 0, splits[-1], splits[-1], torch.float64)
    ranks = rank_pool.run(on_rank, options, splits, dtype, channels_last)
    for name, expected in whole.items():
        if name.startswith(("output", "dx")):
            found = np.concatenate([rank[name] for rank in ranks])
        elif name.startswith("grad_"):
            found = ranks[0][name] + ranks[1][name]
        else:
            np.testing.assert_array_equal(ranks[0][name], ranks[1][name])
            found = ranks[0][name]
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("splits", list(SPLITS.values()), ids=list(SPLITS))
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_the_form_for_cuda_kernels_equals_the_plain_one(
    rank_pool: RankPool, options: dict[str, Any], splits: list[int], channels_last: bool
) -> None:
    """Only the order of sums differs: 1e-12 of values of about 10."""
    plain = rank_pool.run(on_rank, options, splits, "float64", channels_last)
    fused = rank_pool.run(on_rank_with_kernels, options, splits, "float64", channels_last)
    for expected, found in zip(plain, fused, strict=True):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def operators_on_rank(rank: int) -> list[str]:
    norm = convert_sync_batchnorm(make_norm({}, torch.float32))
    inputs = make_input(4, rank)[0].float().requires_grad_()
    with cuda_batchnorm.kernels(), Names() as names:
        norm(inputs).sum().backward()
    return sorted(names.seen)


def test_no_shape_depends_on_what_the_device_knows(rank_pool: RankPool) -> None:
    waits = ("index.", "nonzero", "_local_scalar_dense", "item", "is_nonzero", "masked_select")
    for names in rank_pool.run(operators_on_rank):
        assert any("gather" in name or "cat" in name for name in names)
        assert [name for name in names if name.removeprefix("aten.").startswith(waits)] == []


class Names(TorchDispatchMode):
    """Notes what is dispatched outside the stand-ins of kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not cuda_batchnorm.inside:
            self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def half_precision_on_rank(rank: int, dtype_name: str) -> tuple[str, str, float]:
    norm = convert_sync_batchnorm(make_norm({}, torch.float32))
    inputs = make_input(4, rank)[0].to(getattr(torch, dtype_name)).requires_grad_()
    outputs = norm(inputs)
    outputs.float().square().sum().backward()
    return str(outputs.dtype), str(inputs.grad.dtype), float(norm.running_var.float().mean())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_inputs_keep_their_type_and_fp32_statistics(rank_pool: RankPool, dtype: str) -> None:
    first, second = rank_pool.run(half_precision_on_rank, dtype)
    assert first[:2] == (f"torch.{dtype}", f"torch.{dtype}")
    assert first[2] == second[2]
    assert first[2] == pytest.approx(0.9 + 0.1 * 4, rel=0.1)


def eval_on_rank(rank: int) -> bool:
    plain = make_norm({}, torch.float32).eval()
    joint = convert_sync_batchnorm(make_norm({}, torch.float32)).eval()
    inputs = make_input(3 + rank, rank)[0].float()
    return torch.equal(plain(inputs), joint(inputs))


def test_eval_mode_is_plain_and_needs_no_partner(rank_pool: RankPool) -> None:
    assert rank_pool.run(eval_on_rank) == [True, True]


def test_without_a_group_it_is_plain_batch_norm() -> None:
    plain, joint = make_norm({}, torch.float32), convert_sync_batchnorm(make_norm({}, torch.float32))
    inputs = make_input(4, 0)[0].float()
    assert torch.equal(plain(inputs), joint(inputs))
    assert torch.equal(plain.running_var, joint.running_var)


def test_conversion_keeps_keys_tensors_and_mode() -> None:
    network = nn.Sequential(
        nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Sequential(nn.BatchNorm1d(4)), nn.BatchNorm2d(4)
    )
    network.eval()
    state = dict(network.state_dict(keep_vars=True))
    converted = convert_sync_batchnorm(network)
    assert converted is network
    assert sum(isinstance(layer, AllReduceBatchNorm) for layer in network.modules()) == 3
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(state)
    assert all(after[name] is value for name, value in state.items())
    assert not any(layer.training for layer in network.modules())
    again = {id(layer) for layer in network.modules()}
    convert_sync_batchnorm(network)
    assert {id(layer) for layer in network.modules()} == again


def test_a_vector_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="2 dimensions"):
        AllReduceBatchNorm(4)(torch.randn(4))
