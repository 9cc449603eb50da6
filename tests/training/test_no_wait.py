"""Between two log rows no optimizer step makes the host wait for its device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.full import rest
from tests.support.launching import Launcher, state_of, words

pytestmark = pytest.mark.slow

SCRIPT = "tests/support/pretrain_counted.py"
#: Calls that read what lies in the host's memory all along, by file and function; and the verdict, which has arrived.
ON_THE_HOST = {
    "render.py",
    "batch_render.py",
    "batch.py",
    "worker_pool.py",
    "device_feed.py to_views",
    "ranks.py any",
    "step_result.py result",
}
QUIET = ["run.max_steps=6", "log.every_steps=100", "validation.every_steps=0", "checkpoint.every_steps=100"]


def waits(path: Path, ranks: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for rank in range(ranks):
        for name, count in json.loads(Path(f"{path}.{rank}").read_text()).items():
            where = name.rpartition(" in ")[2]
            if name.startswith("call") and any(where.startswith(each) for each in ON_THE_HOST):
                continue
            found[f"rank {rank}: {name}"] = count
    return found


@pytest.mark.parametrize(
    ("ranks", "more"),
    [
        pytest.param(
            0, ["optimizer.clip=1.0", "data.accumulation=2", "model.momentum_steps=10"], id="many options"
        ),
        pytest.param(2, [], id="two ranks"),
        pytest.param(
            0, ["objective.same_recording_negatives=false", "objective.negatives=both"], id="recordings"
        ),
        *rest([pytest.param(0, [], id="one rank")]),
    ],
)
def test_no_step_waits(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, ranks: int, more: list[str]
) -> None:
    out = tmp_path / "waits"
    watched = {"PAL_TEST_COUNTED": "[2, 4]", "PAL_TEST_COUNTED_OUT": str(out)}
    run = words(tiny_set, tmp_path / "run", *QUIET, *more)
    done = launcher.run_ranks(max(1, ranks), run, script=SCRIPT, **watched)
    assert done.returncode == 0, done.stderr[-3000:]
    assert waits(out, max(1, ranks)) == {}


def test_a_wait_would_be_seen(tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    """The same steps with a log row in them."""
    out = tmp_path / "waits"
    watched = {"PAL_TEST_COUNTED": "[2, 4]", "PAL_TEST_COUNTED_OUT": str(out)}
    run = words(tiny_set, tmp_path / "run", *QUIET, "log.every_steps=4")
    done = launcher.run_ranks(1, run, script=SCRIPT, **watched)
    assert done.returncode == 0, done.stderr[-3000:]
    assert any("step_log.py" in name for name in waits(out, 1))


@pytest.mark.parametrize("ranks", [2, *rest([1])])
def test_a_step_that_was_left_out_is_told_though_nobody_waited(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, ranks: int
) -> None:
    run = tmp_path / "run"
    nan = {"PAL_TEST_NAN_STEPS": "1,2", "PAL_TEST_NAN_RANK": str(ranks - 1)}
    done = launcher.run_ranks(
        ranks, words(tiny_set, run, *QUIET), script="tests/support/pretrain_with_nan.py", **nan
    )
    assert done.returncode == 0, done.stderr[-3000:]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    told = [(event["step"], event["in_a_row"]) for event in events if event["event"] == "skipped"]
    assert told == [(2, 1), (3, 2)]
    state = state_of(run, 6)
    assert all(
        tensor.float().isfinite().all() for part in ("model", "optimizer") for tensor in state[part].values()
    )
    assert {int(each) for name, each in state["optimizer"].items() if name.endswith("step")} <= {4}
    assert state["state"]["skipped_in_a_row"] == 0


def test_too_many_of_them_stop_the_run_though_nobody_waited(
    tiny_set: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    nan = {"PAL_TEST_NAN_STEPS": "1,2", "PAL_TEST_NAN_RANK": "0"}
    settings = words(tiny_set, run, *QUIET, "safety.max_skipped_steps=2")
    done = launcher.run_ranks(1, settings, script="tests/support/pretrain_with_nan.py", **nan)
    assert done.returncode == 1
    assert "2 steps in a row were not finite" in done.stderr
    assert json.loads((run / "STATUS.json").read_text())["step"] == 3
