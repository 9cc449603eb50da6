"""Spans of tables: cut out of whole videos, or recognised as the clip that is already there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.catalog.rows import AUTO, CUT, WHOLE, Row
from shards.encoding.clip_spans import resolve_span
from shards.errors import Rejected
from tests.support.clips import make_video
from tests.support.shard_files import records_of, rejects_of


@pytest.mark.parametrize(
    ("start", "end", "duration", "expected"),
    [
        (0, 10, 10.1, CUT),  # the whole video is hardly longer: either reading gives the same clip
        (299, 309, 11.08, WHOLE),
        (101, 111, 10.92, WHOLE),
        (101, 111, 300.0, CUT),
        (101, 111, 105.0, CUT),  # the copy ends early: what is left of the span
        (5, 15, 10.4, WHOLE),
        (3, 13, 0.0, CUT),  # no duration known
        (101, 111, 50.0, None),
        (101, 111, 3.0, None),
    ],
)
def test_a_file_named_by_its_id_is_the_video_or_the_clip(start, end, duration, expected) -> None:
    row = Row(source="x", root=0, location="x.mp4", start=start, end=end, span=AUTO)
    if expected is None:
        with pytest.raises(Rejected, match="beyond"):
            resolve_span(row, duration)
    else:
        assert resolve_span(row, duration) == expected


@pytest.mark.slow
def test_kinetics_rows_are_cut_taken_whole_or_rejected(tmp_path: Path, pal_shard) -> None:
    root = tmp_path / "videos"
    make_video(root / "long" / "aaaaaaaaaaa.mp4", seconds=8)
    make_video(root / "bbbbbbbbbbb.mp4", seconds=2.2)
    make_video(root / "ccccccccccc_000007_000009.mp4", seconds=2)
    make_video(root / "ddddddddddd.mp4", seconds=6)
    table = tmp_path / "k.csv"
    rows = [
        "aaaaaaaaaaa,3,5",
        "bbbbbbbbbbb,100,102",
        "ccccccccccc,7,9",
        "ddddddddddd,50,52",
        "eeeeeeeeeee,1,3",
    ]
    table.write_text("youtube_id,time_start,time_end\n" + "\n".join(rows))
    done = pal_shard("build", table, tmp_path / "out", "--video-root", root, "--json")
    assert json.loads(done.stdout)["inputs"] == 5
    records = records_of(tmp_path / "out")
    found = {name[:1]: (record["start"], record["end"], record["frames"]) for name, record in records.items()}
    assert found == {"a": (3.0, 5.0, 50), "b": (100.0, 102.0, 55), "c": (7.0, 9.0, 50)}
    stages = {reject["source"][:1]: reject["stage"] for reject in rejects_of(tmp_path / "out")}
    assert stages == {"d": "probe", "e": "missing"}


@pytest.mark.slow
def test_a_cut_starts_at_its_frame_and_a_span_past_the_end_is_rejected(tmp_path: Path, pal_shard) -> None:
    make_video(tmp_path / "v.mp4", seconds=6, extra=("-c:v", "libx264", "-g", "250", "-bf", "3"))
    (tmp_path / "t.csv").write_text(
        "path,start,end\nv.mp4,2.4,4.4\nv.mp4,5,7.5\nv.mp4,100,102\nv.mp4,0,700\n"
    )
    assert pal_shard("build", tmp_path / "t.csv", tmp_path / "out").returncode == 3
    records = records_of(tmp_path / "out")
    assert {source: record["frames"] for source, record in records.items()} == {
        "v.mp4#t=2.4,4.4": 50,
        "v.mp4#t=5,7.5": 25,
    }
    stages = {reject["source"]: reject["stage"] for reject in rejects_of(tmp_path / "out")}
    assert stages == {"v.mp4#t=100,102": "verify", "v.mp4#t=0,700": "probe"}
    # testsrc2 writes the frame number into the picture; the cut must begin with frame 60, not with a key frame
    import subprocess
    import tarfile

    def first_frame(path: Path, seek: str) -> bytes:
        command = ["ffmpeg", "-v", "error", "-ss", seek, "-i", str(path), "-frames:v", "1"]
        scale = ["-vf", "scale=170:128:flags=bicubic", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
        return subprocess.run([*command, *scale], capture_output=True, check=True).stdout

    clip = tmp_path / "clip.mp4"
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        clip.write_bytes(tar.extractfile(records["v.mp4#t=2.4,4.4"]["key"] + ".mp4").read())
    cut, wanted, other = (
        first_frame(clip, "0"),
        first_frame(tmp_path / "v.mp4", "2.4"),
        first_frame(tmp_path / "v.mp4", "2"),
    )

    def distance(a: bytes, b: bytes) -> float:
        return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)

    assert distance(cut, wanted) < 3 < distance(cut, other)
