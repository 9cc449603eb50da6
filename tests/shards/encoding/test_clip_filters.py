"""Filters at build time: what they keep out, and the measured values that rejects tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clips import ffmpeg, make_video
from tests.support.shard_files import records_of, rejects_of


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    make_video(folder / "good.mp4", seconds=2)
    make_video(folder / "small.mp4", seconds=2, size="120x90")
    make_video(folder / "brief.mp4", seconds=0.6)
    encode = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    still = "testsrc2=s=192x144:r=25:d=0.04,loop=49:1,noise=alls=3:allf=t"
    ffmpeg("-f", "lavfi", "-i", still, *encode, folder / "still.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=192x144:r=1/2:d=6,fps=25", *encode, folder / "slides.mp4")
    black = "color=black:s=192x144:r=25:d=3[b];testsrc2=s=192x144:r=25:d=1[t];[b][t]concat"
    ffmpeg("-filter_complex", black, *encode, folder / "black.mp4")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["fast", "copy"])
def test_each_filter_rejects_its_kind_and_tells_what_was_measured(
    mixed, tmp_path, pal_shard, profile
) -> None:
    filters = ("--min-side", 100, "--min-seconds", 1, "--min-motion", 0.2, "--max-black", 0.5)
    done = pal_shard("build", mixed, tmp_path / "out", "--profile", profile, *filters)
    assert done.returncode == 3, done.stderr
    assert set(records_of(tmp_path / "out")) == {"good.mp4"}
    rejects = {reject["source"]: reject for reject in rejects_of(tmp_path / "out")}
    assert {reject["stage"] for reject in rejects.values()} == {"filter"}
    assert rejects["small.mp4"]["error"] == "shorter side of 90 px, below --min-side 100"
    assert rejects["brief.mp4"]["error"] == "0.600 s, below --min-seconds 1"
    assert rejects["black.mp4"]["error"] == "0.750 of it is black, above --max-black 0.5"
    assert rejects["slides.mp4"]["error"].startswith("motion of 0.0")
    assert rejects["still.mp4"]["error"].startswith("motion of 0.")
    assert pal_shard("verify", tmp_path / "out").returncode == 0


@pytest.mark.slow
def test_without_filters_nothing_is_kept_out_and_the_recipe_does_not_name_them(
    mixed, tmp_path, pal_shard
) -> None:
    assert pal_shard("build", mixed, tmp_path / "out").returncode == 0
    assert len(records_of(tmp_path / "out")) == 6
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert not any(name in manifest for name in ("filters", "cutting", '"near"'))
