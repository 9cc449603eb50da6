"""What a stage's key depends on, resuming, the time limit, and stopping."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from benchmarks.evidence.stage import OutOfTime, Runner, Stage, StageError


def shell(text: str, *inputs: Stage, **more: object) -> Stage:
    return Stage(name="s", owner="me", words=("sh", "-c", text, "{out}"), inputs=inputs, **more)  # type: ignore[arg-type]  # any of Stage's fields


def test_a_stage_runs_once_and_again_only_if_its_command_inputs_or_files_change(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.write_text("1")
    count = f"mkdir -p $0 && echo x >> {tmp_path}/count"
    first = shell(count, files=(settings,))
    second = shell(count + " ", first)
    runner = Runner(tmp_path / "work")
    runner.run(second)
    runner.run(second)
    assert len((tmp_path / "count").read_text().split()) == 2
    record = runner.done(second)
    assert record is not None and record.starts == 1
    settings.write_text("2")
    changed = shell(count, files=(settings,))
    assert changed.key != first.key
    assert shell(count + " ", changed).key != second.key
    assert dataclasses.replace(first, identity="newer").key != first.key


def test_words_aside_are_given_to_the_command_and_decide_nothing(tmp_path: Path) -> None:
    plain = shell('mkdir -p "$0" && echo "$@" > "$0/words"')
    aside = dataclasses.replace(plain, aside=("cache={work}/cache",))
    assert aside.key == plain.key
    Runner(tmp_path / "work").run(aside)
    words = (aside.folder(tmp_path / "work") / "words").read_text()
    assert words == f"cache={tmp_path}/work/cache\n"


def test_a_failed_stage_says_where_its_output_is_and_runs_again(tmp_path: Path) -> None:
    stage = shell(f"test -e {tmp_path}/ready || (echo sad >&2; exit 3)")
    runner = Runner(tmp_path / "work")
    with pytest.raises(StageError, match=r"(?s)status 3.*sad"):
        runner.run(stage)
    assert runner.done(stage) is None
    (tmp_path / "ready").touch()
    runner.run(stage)
    record = runner.done(stage)
    assert record is not None and record.starts == 2


def endless(tmp_path: Path) -> Stage:
    """Runs until it is stopped; the second start finds what the first left."""
    return shell(f"test -e {tmp_path}/begun && exit 0; touch {tmp_path}/begun; while :; do sleep 0.05; done")


def test_a_stage_out_of_time_is_stopped_and_goes_on(tmp_path: Path) -> None:
    stage = endless(tmp_path)
    with pytest.raises(OutOfTime):
        Runner(tmp_path / "work", hours=1 / 3600).run(stage)
    runner = Runner(tmp_path / "work")
    runner.run(stage)
    assert runner.done(stage) is not None


def test_stopping_ends_what_runs_and_starts_nothing_new(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "work")
    threading.Timer(0.5, runner.stop).start()
    with pytest.raises(OutOfTime):
        runner.run(endless(tmp_path))
    with pytest.raises(OutOfTime, match="is next"):
        runner.run(shell("true"))


def test_a_command_that_says_preempted_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime, match="goes on next time"):
        Runner(tmp_path / "work").run(shell("exit 75"))


def test_two_runners_on_one_folder_do_not_run_a_stage_twice(tmp_path: Path) -> None:
    stage = shell(f"echo x >> {tmp_path}/count; sleep 0.3")
    threads = [threading.Thread(target=Runner(tmp_path / "work").run, args=(stage,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "count").read_text() == "x\n"
