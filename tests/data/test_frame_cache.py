"""``data.cache_frames``: later epochs decode nothing, and nothing else changes."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from pal_ds.data import frame_cache
from pal_ds.data.clip_cache import CacheSpec
from pal_ds.data.decode import decode_frames
from pal_ds.data.errors import ClipDecodeError
from pal_ds.data.frame_cache import FrameCache
from pal_ds.formats.shardset import SampleRecord
from tests.support.loading import global_batches
from tests.support.tiny_shards import sample

FINE = {"global_batch": 3}
STEPS = 17
LIMIT = 200_000_000
WANTED = [3, 40, 3, 0, 69, 12]


@pytest.fixture
def clip(videos) -> tuple[bytes, SampleRecord]:
    video, frames = videos[2]
    return video, sample("clip.mp4", video, frames)[0]


def cache_of(folder: Path, limit: int = LIMIT) -> FrameCache:
    return FrameCache(CacheSpec(folder=str(folder), limit_bytes=limit, marks=(), frames=True))


def pieces_of(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.is_file()]


def without_decoder(monkeypatch) -> None:
    def fails(video, record, indices, **options):
        raise AssertionError(f"{record.key} was decoded")

    monkeypatch.setattr(frame_cache, "decode_frames", fails)


def test_frames_come_from_the_disk_with_the_decoders_pixels(clip, tmp_path, monkeypatch) -> None:
    expected = decode_frames(*clip, WANTED)
    first = cache_of(tmp_path)
    assert torch.equal(first.frames(*clip, WANTED), expected)
    first.close()
    without_decoder(monkeypatch)
    again = cache_of(tmp_path)
    found = again.frames(*clip, WANTED)
    assert torch.equal(found, expected)
    # Augmentation may write into what it is given; the disk's copy must not change.
    found.zero_()
    assert torch.equal(again.frames(*clip, WANTED), expected)


@pytest.mark.parametrize("where", ["check", "pixel", "end", "all"])
def test_a_damaged_piece_is_decoded_anew_and_kept_anew(clip, tmp_path, monkeypatch, where) -> None:
    expected = decode_frames(*clip, WANTED)
    cache = cache_of(tmp_path)
    cache.frames(*clip, WANTED)
    (path,) = pieces_of(tmp_path)
    data = bytearray(path.read_bytes())
    header = 16 + 4 * clip[1].frames
    changed = {"check": 16 + 4 * 12, "pixel": header + 12 * 3 * clip[1].height * clip[1].width}
    if where in changed:
        data[changed[where]] ^= 1
    path.write_bytes(data if where in changed else data[:-1] if where == "end" else b"")
    assert torch.equal(cache.frames(*clip, WANTED), expected)
    cache.close()
    without_decoder(monkeypatch)
    assert torch.equal(cache_of(tmp_path).frames(*clip, WANTED), expected)


def test_a_clip_without_a_place_is_decoded_frame_by_frame(clip, tmp_path, monkeypatch) -> None:
    asked = []

    def counting(video, record, indices, **options):
        asked.append(list(indices))
        return decode_frames(video, record, indices, **options)

    monkeypatch.setattr(frame_cache, "decode_frames", counting)
    cache = cache_of(tmp_path, limit=10_000)
    assert torch.equal(cache.frames(*clip, WANTED), decode_frames(*clip, WANTED))
    assert asked == [WANTED]
    assert pieces_of(tmp_path) == []


def test_a_clip_that_does_not_decode_is_an_error_and_takes_no_place(clip, tmp_path) -> None:
    video, record = clip
    broken = video[: len(video) // 2]
    bad = dataclasses.replace(record, sha256=hashlib.sha256(broken).hexdigest(), bytes=len(broken))
    size = record.frames * (4 + 3 * record.height * record.width)
    # Room for one clip: the place of the broken one must be free again.
    cache = cache_of(tmp_path, limit=size + 8192)
    for _ in range(2):
        with pytest.raises(ClipDecodeError):
            cache.frames(broken, bad, WANTED)
    assert torch.equal(cache.frames(video, record, WANTED), decode_frames(video, record, WANTED))
    assert len(pieces_of(tmp_path)) == 1


def test_training_batches_are_those_without_a_cache(shard_url, tmp_path) -> None:
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": LIMIT, "cache_frames": True}
    plain = global_batches(shard_url, 2 * STEPS, **FINE)
    assert global_batches(shard_url, 2 * STEPS, **FINE, **cache) == plain
    # A cache that holds a part of the set.
    small = {**cache, "cache_dir": str(tmp_path / "small"), "cache_bytes": 8_000_000}
    assert global_batches(shard_url, 2 * STEPS, **FINE, **small) == plain


@pytest.mark.slow
def test_workers_and_ranks_share_it(shard_url, tmp_path) -> None:
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": LIMIT, "cache_frames": True}
    plain = global_batches(shard_url, STEPS, **FINE)
    assert global_batches(shard_url, STEPS, workers=2, **FINE, **cache) == plain
    assert global_batches(shard_url, STEPS, workers=2, **FINE, **cache) == plain
