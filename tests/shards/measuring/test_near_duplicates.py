"""--dedupe near: copies in another encoding are found, other moments of the same scene are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.measuring.thumbnails import Thumbnail, alike, take_thumbnail
from tests.support.clips import ffmpeg, make_video
from tests.support.shard_files import files_of, records_of, rejects_of

_ENCODE = ("-an", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    moving = "mandelbrot=s=320x240:r=25:start_scale=2"
    ffmpeg("-f", "lavfi", "-t", "3", "-i", moving, *_ENCODE, folder / "m-original.mp4")
    ffmpeg(
        "-i", folder / "m-original.mp4", "-vf", "scale=160:-2", *_ENCODE, "-crf", "36", folder / "a-small.mp4"
    )
    ffmpeg(
        "-i", folder / "m-original.mp4", "-r", "20", "-c:v", "mpeg4", "-q:v", "9", folder / "z-other-rate.avi"
    )
    bright = "eq=brightness=0.08:contrast=1.15"
    ffmpeg("-i", folder / "m-original.mp4", "-vf", bright, *_ENCODE, folder / "z-bright.mp4")
    make_video(folder / "other.mp4", seconds=3, size="320x240")
    # The same ground, and a box that crosses it in two ways.
    for name, place in (("left", "x=8+t*90:y=40"), ("right", "x=280-t*90:y=150")):
        box = f"[0][1]overlay={place}:shortest=1"
        ground = ("-f", "lavfi", "-t", "3", "-i", "smptehdbars=s=320x240:r=25")
        mover = ("-f", "lavfi", "-t", "3", "-i", "color=white:s=60x60:r=25")
        ffmpeg(*ground, *mover, "-filter_complex", box, *_ENCODE, folder / f"scene-{name}.mp4")
    return folder


@pytest.mark.slow
def test_the_smallest_source_of_copies_stays_whatever_the_workers(copies, tmp_path, pal_shard) -> None:
    for name, workers in (("one", 1), ("three", 3)):
        done = pal_shard("build", copies, tmp_path / name, "--dedupe", "near", "--workers", workers)
        assert done.returncode == 3, done.stderr
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")
    kept = {"a-small.mp4", "other.mp4", "scene-left.mp4", "scene-right.mp4"}
    assert set(records_of(tmp_path / "one")) == kept
    rejects = rejects_of(tmp_path / "one")
    assert {reject["source"] for reject in rejects} == {"m-original.mp4", "z-bright.mp4", "z-other-rate.avi"}
    for reject in rejects:
        assert reject["stage"] == "duplicate"
        assert reject["error"].startswith("near duplicate of a-small.mp4 (")


@pytest.mark.slow
def test_a_copy_that_is_refused_for_its_size_wins_over_none(copies, tmp_path, pal_shard) -> None:
    done = pal_shard("build", copies, tmp_path / "out", "--dedupe", "near", "--min-side", 200)
    assert done.returncode == 3
    assert "m-original.mp4" in records_of(tmp_path / "out")
    rejects = {reject["source"]: reject["stage"] for reject in rejects_of(tmp_path / "out")}
    assert rejects == {"a-small.mp4": "filter", "z-bright.mp4": "duplicate", "z-other-rate.avi": "duplicate"}


def test_pictures_of_one_grey_tell_nothing() -> None:
    grey = Thumbnail(np.full((5, 16, 18), 90, np.uint8))
    assert alike(grey, grey) is None
    assert list(grey.values()) == []


def test_a_thumbnail_survives_its_text_and_is_alike_itself(copies) -> None:
    found = take_thumbnail(copies / "other.mp4", 1.0, 1.5, timeout=60)
    assert found is not None
    again = Thumbnail.from_text(found.to_text())
    assert np.array_equal(again.frames_thw, found.frames_thw)
    assert alike(found, again) == 0.0
    assert take_thumbnail(copies / "other.mp4", 9.0, 1.0, timeout=60) is None
