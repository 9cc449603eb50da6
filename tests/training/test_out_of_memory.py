"""A rank whose GPU has no memory left ends with one line, and the others do not wait for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.launching import Launcher, words

SCRIPT = "tests/support/pretrain_out_of_memory.py"


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_it_ends_with_one_line_that_says_what_to_set(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, ranks: int
) -> None:
    run = tmp_path / "run"
    options = [
        "run.max_steps=9",
        "validation.every_steps=0",
        "data.retry_seconds=5",
        "safety.watchdog_seconds=60",
    ]
    done = launcher.run_ranks(
        ranks, words(tiny_set, run, *options), script=SCRIPT, PAL_TEST_RANK=str(ranks - 1)
    )
    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if "out of GPU memory" in line)
    assert line.startswith("error: run failed after step 2: out of GPU memory on rank ")
    assert (
        f"with {8 // ranks} videos a micro-step, asking for 3.06 GiB more; set model.recompute_stages" in line
    )
    assert json.loads((run / "STATUS.json").read_text())["state"] == "failed"
    if ranks == 1:
        assert "Traceback" not in done.stderr
        assert "out of GPU memory" in json.loads((run / "STATUS.json").read_text())["error"]
