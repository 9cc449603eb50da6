"""The pool that keeps a byte an output: torch's values, ties, borders and gradients, in every geometry."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pal_ds.models.layers import light_pool
from pal_ds.models.layers.light_pool import LightMaxPool2d, LightMaxPool3d, light_max_pool3d
from tests.support.saved_tensors import saved_bytes

TRIPLES = st.tuples(*[st.integers(1, 3)] * 3)
#: Every (kernel, stride, padding, ceil mode) that a backbone of this project pools with.
USED = [
    ((1, 3, 3), (1, 2, 2), (0, 0, 0), True),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1), False),
    ((3, 3, 3), (2, 2, 2), (0, 0, 0), True),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1), False),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), True),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), False),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0), True),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0), False),
]


def both(x: torch.Tensor, window: tuple, *, exact: bool = True) -> None:
    """Compare values and gradients with torch's, bit by bit unless gradients are summed in another order."""
    kernel, stride, padding, ceil_mode = window
    ours, theirs = (x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    found = light_max_pool3d(ours, kernel, stride, padding, ceil_mode)
    expected = F.max_pool3d(theirs, kernel, stride, padding, ceil_mode=ceil_mode)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    slope = torch.randint(-3, 4, expected.shape).to(expected) + 0.37
    found.backward(slope)
    expected.backward(slope)
    if exact:
        assert torch.equal(ours.grad, theirs.grad)
    else:
        torch.testing.assert_close(ours.grad, theirs.grad)


def ties(
    shape: tuple[int, ...], seed: int, *, last: bool, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """A volume of few distinct values, so that most windows hold their maximum more than once."""
    x = torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last_3d) if last else x


@given(
    st.tuples(*[st.integers(1, 7)] * 3),
    TRIPLES,
    TRIPLES,
    st.tuples(*[st.integers(0, 1)] * 3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_any_geometry_gives_torchs_values_and_gradients(
    sizes, kernel, stride, padding, ceil, last, seed
) -> None:
    assume(
        all(
            2 * pad <= width <= size + 2 * pad
            for pad, width, size in zip(padding, kernel, sizes, strict=True)
        )
    )
    both(ties((2, 8, *sizes), seed, last=last), (kernel, stride, padding, ceil))


@pytest.mark.parametrize("window", USED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_pool_in_use_is_torchs(window: tuple, dtype: torch.dtype) -> None:
    for sizes, last in itertools.product([(4, 14, 14), (2, 7, 7), (1, 4, 4), (1, 3, 5)], (False, True)):
        if all(width <= size + 2 * pad for width, size, pad in zip(window[0], sizes, window[2], strict=True)):
            both(ties((3, 8, *sizes), 1, last=last, dtype=dtype), window, exact=dtype != torch.bfloat16)


@pytest.mark.parametrize("window", USED)
def test_a_gradient_in_fixed_order_is_the_same(window: tuple) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        for last in (False, True):
            both(ties((3, 8, 4, 9, 9), 2, last=last), window)
            both(ties((3, 8, 3, 5, 1), 3, last=last), window) if window[0][2] <= 1 + 2 * window[2][
                2
            ] else None
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_batch_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch, ordered: bool) -> None:
    monkeypatch.setattr(light_pool, "PART", 2000)
    torch.use_deterministic_algorithms(ordered)
    try:
        both(ties((7, 8, 4, 6, 6), 4, last=False), USED[4])
        both(ties((7, 8, 4, 6, 6), 4, last=True), USED[0])
    finally:
        torch.use_deterministic_algorithms(False)
    with torch.no_grad():
        x = ties((7, 8, 4, 6, 6), 4, last=True)
        assert torch.equal(light_max_pool3d(x, *USED[1]), F.max_pool3d(x, *USED[1][:3]))


def test_where_no_byte_fits_by_rest_the_elements_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_pool, "_modulus", lambda _distances: 0)
    both(ties((2, 8, 4, 6, 6), 5, last=False), USED[4])
    torch.use_deterministic_algorithms(True)
    try:
        both(ties((2, 8, 4, 6, 6), 5, last=True), USED[2])
    finally:
        torch.use_deterministic_algorithms(False)


@given(TRIPLES, st.integers(1, 64), st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_the_byte_tells_all_distances_of_a_window_apart(kernel, height, width) -> None:
    distances = light_pool._distances(kernel, height, width)
    modulus = light_pool._modulus(distances)
    assert 0 < modulus <= 256
    assert len({distance % modulus for distance in distances}) == len(distances)


def test_a_byte_an_output_is_all_that_is_kept() -> None:
    x = torch.randn(2, 8, 4, 8, 8, requires_grad=True)
    pool = LightMaxPool3d((3, 3, 3), (1, 1, 1), (1, 1, 1))
    assert saved_bytes(lambda: pool(x)) == pool(x).numel()
    assert saved_bytes(lambda: F.max_pool3d(x, 3, 1, 1)) == 8 * pool(x).numel() + 4 * x.numel()


def test_maps_of_two_dimensions_and_gradcheck() -> None:
    x = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    ours, theirs = (x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    found, expected = LightMaxPool2d(3, 2, 1)(ours), nn.MaxPool2d(3, 2, 1)(theirs)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    distinct = torch.randperm(2 * 8 * 3 * 4 * 4).double().view(2, 8, 3, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: light_max_pool3d(x, *USED[5]), (distinct,), eps=1e-3)


def test_a_window_too_large_for_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match=r"use up to 256 elements"):
        light_max_pool3d(torch.zeros(1, 1, 9, 9, 9, requires_grad=True), (9, 9, 9), (1, 1, 1), (0, 0, 0))
