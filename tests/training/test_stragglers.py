"""Two ranks, one of them slow: rows and events name it, though all steps take as long on both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.full import rest
from tests.support.launching import Launcher, training_rows, words

pytestmark = pytest.mark.slow

SCRIPT = "tests/support/pretrain_slow_rank.py"


@pytest.mark.parametrize("slow", [1, *rest([0])])
def test_the_slow_rank_is_named(tiny_set: Path, launcher: Launcher, tmp_path: Path, slow: int) -> None:
    run = tmp_path / "run"
    settings = ["run.max_steps=6", "validation.every_steps=0", "checkpoint.every_steps=100"]
    # A busy machine slows the other rank as well.
    settings.append("log.straggler_factor=1.1")
    place = f"log.prometheus={tmp_path / 'node.prom'}"
    done = launcher.run_ranks(
        2, words(tiny_set, run, *settings, place), script=SCRIPT, PAL_TEST_SLOW=f"{slow},3.0"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # The first step is as slow as its imports; then the sleep decides, unless the machine stalls the other rank.
    later = [row for step, row in training_rows(run).items() if step > 1]
    named = [row for row in later if row["slowest_rank"] == slow]
    assert len(named) >= len(later) - 1
    assert all(row["slowest_rank_seconds"] >= 3.0 for row in named)
    # The other rank's own time is what the whole step takes without the slow one's sleep.
    assert all(row["median_rank_seconds"] < row["slowest_rank_seconds"] for row in named)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "straggler"]
    assert {(event["rank"], event["rows"]) for event in told} == {(slow, 3)}
    assert told[0]["host"]
    assert f"rank {slow} works" in done.stderr
    assert f'pal_slowest_rank{{run="{run}"}} ' in (tmp_path / "node.prom").read_text()
