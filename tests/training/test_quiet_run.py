"""What a person sees of a run on two ranks: its plan in six lines, then a line for each log row, and no chatter."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.launching import ROOT, Launcher, words

pytestmark = pytest.mark.slow
PLAN = ("data", "batch", "model", "length", "reading", "output")
#: Lines after the plan: a row, a validation, and what is told of checkpoints.
FURTHER = re.compile(
    r"step \d+/8  (epoch \d+  loss|validation loss) |.* rank 0 INFO .*: checkpoint of step \d+ committed"
)


def test_two_ranks_print_a_plan_and_a_line_a_row(tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    # Groups of 8: smaller ones are warned of.
    more = ["run.max_steps=8", "log.every_steps=2", "data.group_size=8", "data.global_batch=16"]
    command = launcher.command(2, words(tiny_set, tmp_path / "run", *more))
    done = subprocess.run(
        [command[0], "--quiet", *command[1:]],
        cwd=ROOT,
        env=launcher.environment(DS_ACCELERATOR="cpu"),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert tuple(line.split()[0] for line in lines[:6]) == PLAN
    assert not [line for line in lines[6:] if not FURTHER.match(line)]
    assert len([line for line in lines if re.match(r"step \d+/8  epoch", line)]) == 4
