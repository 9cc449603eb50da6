"""The queue is a ring for any size and any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.models.ssl.key_queue import KeyQueue


@settings(max_examples=80, deadline=None)
@given(size=st.integers(1, 13), batches=st.lists(st.integers(0, 30), max_size=8))
def test_ring_holds_the_newest_keys_in_order(size: int, batches: list[int]) -> None:
    queue = KeyQueue(size, 1)
    expected = queue.keys.flatten().tolist()
    position = written = 0
    for batch in batches:
        queue.enqueue(torch.arange(written, written + batch).float().unsqueeze(1))
        for key in range(written, written + batch):
            expected[position] = float(key)
            position = (position + 1) % size
        written += batch
    assert queue.keys.flatten().tolist() == expected
    assert int(queue.pointer) == position
    assert int(queue.filled) == min(written, size)
    assert queue.fill == min(written, size) / size


def test_starts_as_random_unit_rows() -> None:
    queue = KeyQueue(64, 8)
    assert queue.keys.dtype == torch.float32
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(64))
    assert queue.keys.unique(dim=0).shape[0] == 64
    assert queue.fill == 0.0


def test_mask_covers_exactly_the_rows_without_keys() -> None:
    assert KeyQueue(4, 2).excluded() is None
    queue = KeyQueue(4, 2, mask_unfilled=True)
    queue.enqueue(torch.ones(3, 2))
    assert queue.excluded().tolist() == [False, False, False, True]
    queue.enqueue(torch.ones(3, 2))
    assert queue.excluded().tolist() == [False] * 4


def test_state_round_trip_continues_the_ring() -> None:
    first, second = KeyQueue(5, 2), KeyQueue(5, 2)
    first.enqueue(torch.randn(3, 2))
    second.load_state_dict(first.state_dict())
    keys = torch.randn(4, 2)
    first.enqueue(keys)
    second.enqueue(keys)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_half_precision_keys_are_stored_in_fp32() -> None:
    queue = KeyQueue(4, 2)
    queue.enqueue(torch.ones(1, 2, dtype=torch.bfloat16))
    assert queue.keys.dtype == torch.float32


def test_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \[N, 2\]"):
        KeyQueue(4, 2).enqueue(torch.ones(1, 3))


@pytest.mark.parametrize("applied", [0.0, 1.0])
def test_the_device_may_decide_whether_keys_are_written(applied: float) -> None:
    torch.manual_seed(0)
    queue, twin = (KeyQueue(4, 2, recordings=True) for _ in range(2))
    twin.load_state_dict(queue.state_dict())
    for number in range(3):
        keys = torch.full((3, 2), float(number)) if applied else torch.full((3, 2), float("nan"))
        recordings = torch.tensor([1, 2, 3]) + number
        queue.enqueue(keys, recordings, torch.tensor(applied))
        if applied:
            twin.enqueue(keys, recordings)
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in queue.state_dict().items())
