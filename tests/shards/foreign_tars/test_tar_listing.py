"""The samples of foreign tars: every sample's own range of bytes holds its members and no others."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UsageError
from shards.foreign_tars.tar_listing import list_tar
from shards.foreign_tars.video_member import VideoMember
from tests.support.foreign_tars import tar_of

#: Names with folders, dots, and more letters than a plain header takes.
KEYS = st.text("abcXYZ0123_-/é", min_size=1, max_size=120).filter(
    lambda key: not key.startswith("/") and "//" not in key and not key.endswith("/")
)
ENDINGS = st.lists(st.sampled_from(["json", "txt", "left.jpg", "cls"]), unique=True, max_size=3)


def listed(data: bytes, pattern: str | None = None):
    return list_tar(io.BytesIO(data), len(data), VideoMember(pattern))


@given(
    samples=st.dictionaries(KEYS, st.tuples(ENDINGS, st.binary(max_size=1500)), min_size=1, max_size=6),
    archive=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_a_samples_range_holds_its_members_and_its_video_lies_where_it_says(samples, archive):
    members = []
    for key, (endings, video) in samples.items():
        names = sorted([*endings, "mp4"])
        members += [(f"{key}.{name}", video if name == "mp4" else name.encode()) for name in names]
    data = tar_of(members, format=archive)
    found = listed(data)
    assert found.problem is None
    assert [sample.key for sample in found.samples] == list(samples)
    for sample in found.samples:
        endings, video = samples[sample.key]
        with tarfile.open(fileobj=io.BytesIO(data[sample.start : sample.end]), mode="r:") as tar:
            assert sorted(tar.getnames()) == sorted(f"{sample.key}.{name}" for name in [*endings, "mp4"])
        (member,) = sample.videos
        assert data[member.offset : member.offset + member.size] == video


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        (None, ["a.mp4", "a.json", "b.webm"], {"a": "a.mp4", "b": "b.webm"}),
        ("left.mp4", ["a.left.mp4", "a.right.mp4", "a.json"], {"a": "a.left.mp4"}),
        ("*.MP4", ["a.left.mp4"], {"a": "a.left.mp4"}),
        ("bin", ["a.bin", "a.mp4"], {"a": "a.bin"}),
        ("{key}/video.mp4", ["x/cap.txt", "x/video.mp4", "y/video.mp4"], {"x": "x/video.mp4", "y": "y/video.mp4"}),
        ("{key}.mp4", ["A.S01.mp4", "A.S02.mp4"], {"A.S01": "A.S01.mp4", "A.S02": "A.S02.mp4"}),
        ("video_{key}", ["video_1", "meta_1", "video_2"], {"1": "video_1", "2": "video_2"}),
    ],
)  # fmt: skip
def test_videos_are_told_by_their_names(pattern, names, expected):
    found = listed(tar_of([(name, b"v") for name in names]), pattern)
    assert {sample.key: sample.videos[0].name for sample in found.samples} == expected


def test_neighbours_of_a_whole_name_belong_to_its_sample():
    found = listed(
        tar_of([(name, b"v") for name in ["x/1/cap.txt", "x/1/video.mp4", "x/10/cap.txt"]]), "{key}/video.mp4"
    )
    (sample,) = found.samples
    assert [member.name for member in sample.others] == ["x/1/cap.txt"]


@pytest.mark.parametrize("pattern", ["", "*", "{key}", "{key}/{key}.mp4", "."])
def test_a_pattern_that_names_nothing_is_refused(pattern):
    with pytest.raises(UsageError, match="--video-member"):
        VideoMember(pattern)


def test_a_tar_cut_short_keeps_what_is_whole_and_says_so():
    data = tar_of([("a.mp4", bytes(5000)), ("b.mp4", bytes(5000))])
    found = listed(data[:9000])
    assert [sample.key for sample in found.samples] == ["a"]
    assert found.problem is not None and "b.mp4" in found.problem


def test_damage_between_members_is_told():
    data = bytearray(tar_of([("a.mp4", b"1"), ("b.mp4", b"2"), ("c.mp4", b"3")]))
    data[1024:1100] = b"x" * 76
    found = listed(bytes(data))
    assert [sample.key for sample in found.samples] == ["a"]
    assert found.problem == "is damaged from byte 1024 on"


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar_is_told(data):
    assert listed(data).samples == ()
