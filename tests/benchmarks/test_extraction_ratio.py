"""The extraction benchmark counts the same clips on both sides and reports quartiles of neighbouring runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_benchmark_runs_tiny(tmp_path: Path) -> None:
    sizes = ("--short-count", "3", "--short-seconds", "1", "--long-seconds", "2", "--frame", "64x48")
    network = ("--width", "0.0625", "--size", "32", "--batch", "4", "--rounds", "2")
    out = tmp_path / "ratio.json"
    command = [sys.executable, "-m", "benchmarks.extraction.run", *sizes, *network, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [(row["network"], row["set"], row["videos"], row["clips"]) for row in found["rows"]] == [
        ("i3d", "long", 1, 6),
        ("i3d", "short", 3, 9),
        ("vit", "long", 1, 6),
        ("vit", "short", 3, 9),
    ]
    for row in found["rows"]:
        assert len(row["rounds"]) == 2
        assert all(each[side] > 0 for each in row["rounds"] for side in ("bound", "ours"))
    assert found["command"].startswith("python -m benchmarks.extraction.run --short-count 3")
