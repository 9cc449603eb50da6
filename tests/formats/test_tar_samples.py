"""Samples out of the bytes of a shard: whole ones come back as they were, anything else is refused by name."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest

from pal_ds.formats.shardset import SampleRecord, ShardSetError
from pal_ds.formats.tar_samples import SampleMembers, split_samples
from shards.tar_members import read_sample


def record(key: str, video: bytes) -> SampleRecord:
    return SampleRecord(
        key=key, source=f"{key}.mp4", start=0.0, end=1.0, duration=1.0, fps=25.0, frames=25, width=48, height=36,
        bytes=len(video), sha256=hashlib.sha256(video).hexdigest(),
    )  # fmt: skip


def tar_of(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members_of(key: str, video: bytes) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return (f"{key}.mp4", video), (f"{key}.json", record(key, video).to_json())


def test_whole_samples_come_back_byte_for_byte() -> None:
    videos = {"aa": b"one" * 1000, "bb": bytes(range(256)) * 7}
    data = tar_of(*(member for key, video in videos.items() for member in members_of(key, video)))
    found = list(split_samples(data))
    assert [(sample.key, sample.video, sample.video_extension) for sample in found] == [
        (key, video, "mp4") for key, video in videos.items()
    ]
    assert [sample.record for sample in found] == [record(key, video) for key, video in videos.items()]


def with_tarfile(data: bytes) -> list[SampleMembers]:
    return [read_sample(data)]


READERS = pytest.mark.parametrize("read", [lambda data: list(split_samples(data)), with_tarfile])


@READERS
@pytest.mark.parametrize("name", ["../aa", "/etc/aa", "a b", "x" * 129, "sub/aa"])
def test_a_key_that_is_no_plain_name_is_refused(name: str, read: Callable[[bytes], object]) -> None:
    # What stands before the first dot is the key: that of "../aa" is empty.
    with pytest.raises(ShardSetError, match=r"not a plain name|one video and one json"):
        read(tar_of(*members_of(name, b"v")))


@READERS
@pytest.mark.parametrize("ending", ["mp4.x/../../aa", "m p4", "x" * 9])
def test_an_ending_that_is_none_of_a_file_is_refused(ending: str, read: Callable[[bytes], object]) -> None:
    (_, video), row = members_of("aa", b"v")
    with pytest.raises(ShardSetError):
        read(tar_of((f"aa.{ending}", video), row))


def test_links_in_a_tar_are_no_members() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("aa.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        text = record("aa", b"v").to_json()
        info = tarfile.TarInfo("aa.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    with pytest.raises(ShardSetError, match="expected one video and one json"):
        list(split_samples(buffer.getvalue()))


def test_bytes_that_are_cut_or_no_tar_are_refused() -> None:
    data = tar_of(*members_of("aa", b"v" * 5000))
    for broken in (data[:3000], b"\x01" * 2048):
        with pytest.raises(ShardSetError):
            list(split_samples(broken))
    video, text = members_of("aa", b"v")
    for alone in (video, text):
        with pytest.raises(ShardSetError, match="expected one video and one json"):
            list(split_samples(tar_of(alone)))
    with pytest.raises(ShardSetError, match="sample record"):
        list(split_samples(tar_of(video, ("aa.json", b"{}"))))
