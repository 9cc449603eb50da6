"""--copy-if-conforming: what already is what the recipe makes is packed byte for byte, the rest is encoded."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from shards.encoding.conforming import mismatch
from shards.encoding.profiles import PROFILES
from tests.support.clips import ffmpeg, make_video
from tests.support.shard_files import records_of

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
FAST = (*X264, "-bf", "0", "-g", "16", "-keyint_min", "16", "-sc_threshold", "0")


def conforming(path: Path, **options: object) -> Path:
    extra = (*FAST, *options.pop("more", ()))  # type: ignore[misc]  # options is Any
    return make_video(path, **{"size": "170x128", "extra": extra, "seconds": 1, **options})  # type: ignore[arg-type]


def with_sound(path: Path) -> Path:
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=170x128:r=25:d=1", "-f", "lavfi", "-i", "sine=d=1"),
        *(*FAST, "-c:a", "aac", path),
    )
    return path


def variable_rate(path: Path) -> Path:
    select = ("-vf", "select='not(eq(n,7))'", "-fps_mode", "vfr")
    return conforming(path, more=select)


def late_key_frame(path: Path) -> Path:
    """Its average GOP is in order, one is not."""
    frames = ("-force_key_frames", "expr:if(gte(n,20),eq(mod(n,2),0),0)", "-g", "250", "-keyint_min", "1")
    return conforming(path, more=frames)


def edited(path: Path) -> Path:
    whole = conforming(path.with_name("whole.mp4"), seconds=3)
    ffmpeg("-ss", "1.1", "-i", whole, "-c", "copy", path)
    return path


def rotated(path: Path) -> Path:
    ffmpeg("-i", conforming(path.with_name("upright.mp4")), "-c", "copy", "-metadata:s:v", "rotate=90", path)
    return path


CASES = {
    "as the recipe makes it": (conforming, None),
    "29.97": (lambda path: conforming(path, fps=30000 / 1001), None),
    "slow": (lambda path: conforming(path, fps=5, seconds=3), None),
    "portrait": (lambda path: conforming(path, size="128x256"), None),
    "another codec": (lambda path: make_video(path, size="170x128", extra=("-c:v", "mpeg4")), "codec"),
    "larger": (lambda path: conforming(path, size="192x144"), "short side"),
    "4:4:4": (lambda path: conforming(path, more=("-pix_fmt", "yuv444p")), "pixel format"),
    "B-frames": (lambda path: conforming(path, more=("-bf", "2")), "no B-frames"),
    "long GOP": (lambda path: conforming(path, more=("-g", "17")), "key frames"),
    "one long GOP": (late_key_frame, "key frames"),
    "60 fps": (lambda path: conforming(path, fps=60), "frame rate"),
    "variable rate": (variable_rate, "constant rate"),
    "anamorphic": (lambda path: conforming(path, more=("-vf", "setsar=2")), "square pixels"),
    "sound": (with_sound, "one stream"),
    "edit list": (edited, "starts at time 0"),
    "rotated": (rotated, "upright"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_difference_from_the_recipe_is_found(tmp_path: Path, case: str) -> None:
    make, expected = CASES[case]
    make(tmp_path / "v.mp4")
    assert mismatch(tmp_path / "v.mp4", PROFILES["fast"], timeout=60) == expected


def test_what_is_no_video_or_in_another_container_does_not_conform(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert mismatch(tmp_path / "text.mp4", PROFILES["fast"], timeout=60)
    conforming(tmp_path / "v.mkv")
    assert mismatch(tmp_path / "v.mkv", PROFILES["fast"], timeout=60) == "container"


@pytest.mark.slow
def test_conforming_files_keep_their_bytes_and_the_set_says_which(tmp_path: Path, pal_shard) -> None:
    videos = tmp_path / "videos"
    kept = conforming(videos / "kept.mp4").read_bytes()
    make_video(videos / "larger.mp4", seconds=1)
    broken = bytearray(conforming(videos / "spoilt.mp4", seconds=2).read_bytes())
    middle = broken.find(b"mdat") + (len(broken) - broken.find(b"mdat")) // 2
    broken[middle : middle + 400] = bytes(400)
    (videos / "spoilt.mp4").write_bytes(broken)
    assert mismatch(videos / "spoilt.mp4", PROFILES["fast"], timeout=60) is None
    arguments = ("build", videos, tmp_path / "out", "--copy-if-conforming", "--json")
    done = pal_shard(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (json.loads(done.stdout)["clips"], json.loads(done.stdout)["copied"]) == (3, 1)
    records = records_of(tmp_path / "out")
    # The spoilt one looks right from outside and does not decode cleanly: it was encoded.
    assert {source: record["copied"] for source, record in records.items()} == {
        "kept.mp4": True,
        "larger.mp4": False,
        "spoilt.mp4": False,
    }
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        assert tar.extractfile(records["kept.mp4"]["key"] + ".mp4").read() == kept  # type: ignore[union-attr]
    assert json.loads(pal_shard("stats", tmp_path / "out", "--json").stdout)["copied"] == 1
    assert pal_shard("verify", tmp_path / "out", "--decode").returncode == 0
    assert pal_shard("build", videos, tmp_path / "out").returncode == 2  # another recipe
    assert pal_shard("build", videos, tmp_path / "x", "--copy", "--copy-if-conforming").returncode == 2
    # A set made by the recipe is packed again as it is.
    again = pal_shard("reshard", tmp_path / "out", tmp_path / "again", "--copy-if-conforming", "--json")
    assert json.loads(again.stdout)["copied"] == 3
