"""Clips of one recording: told by their source, and left out of the negatives where asked."""

from __future__ import annotations

import pytest
import torch

from pal_ds.formats.recording import recording_number, recording_of
from pal_ds.models.ssl.key_queue import KeyQueue


@pytest.mark.parametrize(
    ("source", "recording"),
    [
        ("dance/abcdefghijk_000010_000020.mp4", "abcdefghijk"),
        ("dancer.avi#t=4,8", "dancer.avi"),
        ("films/dancer.avi#t=0.5,8.25", "films/dancer.avi"),
        ("films/dancer.avi", "films/dancer.avi"),
        ("a_b_c.mp4", "a_b_c.mp4"),
        ("id_000010_00002x.mp4", "id_000010_00002x.mp4"),
    ],
)
def test_recording_is_told_by_the_source(source: str, recording: str) -> None:
    assert recording_of(source) == recording
    assert 0 <= recording_number(source) < 2**63
    assert recording_number(source) == recording_number(source)


def test_clips_of_one_recording_share_a_number_and_others_do_not() -> None:
    one, two, other = "x.mp4#t=0,4", "x.mp4#t=4,8", "y.mp4#t=0,4"
    assert recording_number(one) == recording_number(two) != recording_number(other)


def test_queue_remembers_recordings_through_its_ring() -> None:
    queue = KeyQueue(4, 2, mask_unfilled=True, recordings=True)
    queue.enqueue(torch.eye(2)[[0, 1, 0]], torch.tensor([5, 6, 7]))
    excluded = queue.excluded(torch.tensor([6, 9]))
    assert excluded is not None
    assert excluded.tolist() == [[False, True, False, True], [False, False, False, True]]
    queue.enqueue(torch.eye(2), torch.tensor([8, 6]))
    excluded = queue.excluded(torch.tensor([6]))
    assert excluded is not None
    assert excluded.tolist() == [[True, True, False, False]]
    assert "recordings" in queue.state_dict()


def test_recordings_are_given_exactly_where_they_are_kept() -> None:
    with pytest.raises(ValueError, match="recordings"):
        KeyQueue(4, 2, recordings=True).enqueue(torch.eye(2))
    with pytest.raises(ValueError, match="recordings"):
        KeyQueue(4, 2).enqueue(torch.eye(2), torch.tensor([1, 2]))
    assert "recordings" not in KeyQueue(4, 2).state_dict()
