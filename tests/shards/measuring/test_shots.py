"""Where a film's shots end, found by PySceneDetect in frames that ffmpeg decoded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from shards.errors import Rejected
from shards.measuring.shots import find_shots
from tests.support.clips import ffmpeg
from tests.support.shard_files import records_of, rejects_of

pytest.importorskip("scenedetect")
#: Seconds of each shot of the film below, and what is in it.
SHOTS = (
    (2.0, "testsrc2=s=160x120:r=25"),
    (3.0, "mandelbrot=s=160x120:r=25"),
    (0.6, "smptebars=s=160x120:r=25"),
)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    inputs = [part for seconds, source in SHOTS for part in ("-f", "lavfi", "-t", str(seconds), "-i", source)]
    joined = "".join(f"[{number}]" for number in range(len(SHOTS))) + f"concat=n={len(SHOTS)}"
    ffmpeg(*inputs, "-filter_complex", joined, "-c:v", "libx264", "-preset", "ultrafast", path)
    return path


def test_cuts_lie_half_a_frame_before_the_first_frame_of_a_shot(film) -> None:
    duration, shots = find_shots(film, threshold=3.0, timeout=60)
    assert duration == pytest.approx(5.6)
    assert shots == [1.98, 4.98]


def test_what_takes_too_long_is_rejected_and_not_cut_in_part(film) -> None:
    with pytest.raises(Rejected, match="timed out"):
        find_shots(film, threshold=3.0, timeout=-4 * 5.6 + 0.001)


@pytest.mark.slow
def test_shots_become_clips_without_a_frame_of_their_neighbours(film, tmp_path, pal_shard) -> None:
    done = pal_shard("build", film.parent, tmp_path / "out", "--shots", "--min-seconds", 1, "--json")
    assert done.returncode == 3, done.stderr
    records = records_of(tmp_path / "out")
    assert {name: record["frames"] for name, record in records.items()} == {
        "film.mp4#t=0,1.98": 50,
        "film.mp4#t=1.98,4.98": 75,
    }
    assert rejects_of(tmp_path / "out") == [
        {"source": "film.mp4#t=4.98,5.6", "stage": "filter", "error": "0.620 s, below --min-seconds 1"}
    ]
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_bytes())["recipe"]
    assert recipe["cutting"]["shots"]["threshold"] == 3.0
    assert recipe["videos"]["count"] == 1


def test_without_the_library_one_line_says_how_to_get_it(film, tmp_path) -> None:
    code = (
        "import sys; sys.modules['scenedetect'] = None; from shards.cli import main; "
        f"sys.exit(main(['build', {str(film.parent)!r}, {str(tmp_path / 'out')!r}, '--shots']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install scenedetect-headless" in done.stderr
    assert len(done.stderr.splitlines()) == 1
