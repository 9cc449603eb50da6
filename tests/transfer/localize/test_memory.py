"""A long video takes no more memory than a short one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.localize.run import high_water
from tests.support.extract_fixtures import ffmpeg
from tests.support.localizer_model import make_action_video

ROOT = Path(__file__).parents[3]
#: Megabytes that features, thumbnails and the page of ten minutes may take beside those of ten seconds.
GROWTH_MB = 120


@pytest.mark.slow
def test_ten_minutes_take_the_memory_of_ten_seconds(trained, tmp_path):
    short = make_action_video(tmp_path / "short.mp4", start=1, end=3, seconds=10, size="160x120")
    ffmpeg("-stream_loop", "59", "-i", str(short), "-c", "copy", str(tmp_path / "long.mp4"))
    model = tmp_path / "model"
    model.mkdir()
    for path in trained.model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    # Few clips, all frames: encoding is not what is looked at.
    spec = json.loads((model / "model.json").read_text())
    spec["sampling"]["stride"] = 40
    (model / "model.json").write_text(json.dumps(spec))
    peaks = []
    for name in ("short", "long"):
        command = [sys.executable, "-m", "pal_ds.cli.localize", str(tmp_path / f"{name}.mp4"), "--json", "--device",
                   "cpu", "--model", str(model), "--out", str(tmp_path / name)]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            time.sleep(0.05)
        said = json.loads(process.stdout.read())
        assert (process.returncode, said["localized"]) == (0, 1)
        peaks.append(peak)
    assert min(peaks) > 100
    assert said["clips"] > 350
    assert peaks[1] < min(1500, peaks[0] + GROWTH_MB), peaks
