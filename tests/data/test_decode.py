import dataclasses

import pytest
import torch

from pal_ds.data.decode import decode_frames
from pal_ds.data.errors import ClipDecodeError
from tests.support.tiny_shards import HEIGHT, WIDTH, encode, sample


@pytest.fixture(scope="module")
def clip():
    return sample("a.mp4", encode(1, 40), 40)


def test_frames_come_in_the_order_asked_for_repeats_included(clip):
    record, video = clip
    wanted = [30, 2, 2, 17, 39, 0]
    frames = decode_frames(video, record, wanted)
    assert frames.shape == (6, HEIGHT, WIDTH, 3)
    assert frames.dtype == torch.uint8
    one_by_one = [decode_frames(video, record, [index])[0] for index in wanted]
    assert all(torch.equal(a, b) for a, b in zip(frames, one_by_one, strict=True))
    assert not torch.equal(frames[0], frames[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"frames": 41}, "40 frames instead of 41"), ({"width": 50}, "48x36 pixels instead of 50x36")],
)
def test_another_clip_than_the_record_describes_is_an_error(clip, change, reason):
    record, video = clip
    with pytest.raises(ClipDecodeError, match=reason):
        decode_frames(video, dataclasses.replace(record, **change), [0])


@pytest.mark.parametrize("broken", [b"", b"not a video", "truncated", "flipped"])
def test_broken_bytes_are_a_clip_error_naming_the_key(clip, broken):
    record, video = clip
    if broken == "truncated":
        broken = video[: len(video) // 3]
    elif broken == "flipped":
        broken = video[:200] + bytes(byte ^ 0x55 for byte in video[200:900]) + video[900:]
    with pytest.raises(ClipDecodeError, match=record.key):
        decode_frames(broken, record, list(range(40)))
