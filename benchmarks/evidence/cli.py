"""Where PAL helps, as one command: ``python -m benchmarks.evidence run --work DIR``.

Corpus, shards, pre-training, frozen features, heads and measures are the normal commands, each in its own process,
each done once for its inputs. Stop it when you like; the same command goes on. The first things come first: floors
and ceilings, then the untrained network, PAL, MoCo and TAC seed by seed, then the paper's Tables 3, 4 and 5, then
pre-training on top of another.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.evidence import page
from benchmarks.evidence.kept import KEPT, keep, kept_row, restore_exports, stale_rows
from benchmarks.evidence.plan import Row, build_row
from benchmarks.evidence.profiles import PROFILES, Profile
from benchmarks.evidence.results import read_row
from benchmarks.evidence.stage import EXIT_PREEMPTED, OutOfTime, Runner, Stage, StageError
from benchmarks.evidence.variants import VARIANTS, rows
from benchmarks.machine import cores

_EPILOG = """
examples
  Half an hour of work, then the page from all that is there (exit 75: run it again):
    python -m benchmarks.evidence run --work runs/evidence --hours 0.5

  Something to choose is chosen on the development set, never on the videos of the figures:
    python -m benchmarks.evidence run --work runs/evidence --development --variants one-hot,pose

  The paper's network on a GPU, one run at a time:
    python -m benchmarks.evidence run --work runs/gpu --profile gpu --jobs 1 --hours 0.5

exit status: 0 all asked for is done; 75 out of time, run it again; 2 bad usage; 1 a stage failed
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = _parser().parse_args(argv)
    profile = PROFILES[arguments.profile]
    try:
        names = _names(arguments.variants)
        runner = Runner(
            arguments.work.resolve(), hours=arguments.hours, threads=max(1, cores() // arguments.jobs)
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"evidence: {error}\n")
        return 2
    name = f"{arguments.profile}-development" if arguments.development else arguments.profile
    kept = arguments.kept / name
    # What else there is joins the page, so that it never depends on what was asked for last.
    everything = _built(profile, None, arguments.development)
    planned = _built(profile, names, arguments.development)
    for stale in stale_rows(everything, kept):
        sys.stderr.write(f"evidence: {kept / stale} is of another version of the benchmark: left out\n")
    to_do = [row for row in planned if kept_row(row, kept) is None]
    restore_exports(everything, runner, kept)
    if arguments.command == "plan":
        _print_plan(runner, to_do)
        return 0
    status = 0
    if arguments.command == "run":
        status = _run(runner, to_do, arguments.jobs)
    elif arguments.command == "keep":
        for file in keep(everything, runner, kept):
            sys.stdout.write(f"{kept / file}\n")
    rows_found = [(row, read_row(row, runner) or kept_row(row, kept)) for row in everything]
    measured = [found for _, found in rows_found if found is not None]
    missing = [row.name for row, found in rows_found if found is None]
    sys.stdout.write(page.write(runner.work, name, profile, measured, missing))
    sys.stdout.write(f"\n{len(measured)} rows, {len(missing)} missing; page: {runner.work / name}.html\n")
    return status


def _built(profile: Profile, names: list[str] | None, development: bool) -> list[Row]:
    return [
        build_row(profile, variant, seed, development=development) for variant, seed in rows(profile, names)
    ]


def _run(runner: Runner, planned: list[Row], jobs: int) -> int:
    """Run rows in order, ``jobs`` at a time; returns the exit status."""
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, lambda *_: runner.stop())
    pool = ThreadPoolExecutor(jobs)
    futures = [pool.submit(runner.run, row.measures) for row in planned]
    status = 0
    try:
        for future in futures:
            try:
                future.result()
            except OutOfTime as reached:
                sys.stderr.write(f"evidence: out of time: {reached}\n")
                status = status or EXIT_PREEMPTED
                break
            except StageError as error:  # other rows may still go well
                sys.stderr.write(f"evidence: {error}\n")
                status = 1
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status


def _print_plan(runner: Runner, planned: list[Row]) -> None:
    shown: set[str] = set()

    def show(stage: Stage) -> None:
        for needed in stage.inputs:
            show(needed)
        if stage.key not in shown:
            shown.add(stage.key)
            state = "done " if runner.done(stage) else "to do"
            print(f"{state} {stage.owner} {stage.name}: {shlex.join(stage.command(runner.work))}")

    for row in planned:
        show(row.measures)


def _names(text: str) -> list[str] | None:
    if not text:
        return None
    names = text.split(",")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise ValueError(f"--variants {unknown[0]}: use {', '.join(VARIANTS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "command",
        choices=("run", "plan", "report", "keep"),
        help="report: only write the page from what is there; keep: copy finished rows to --kept, for other machines",
    )
    add("--work", type=Path, required=True, help="folder of all results; keep it, it is the cache")
    add(
        "--kept",
        type=Path,
        default=KEPT,
        help="finished rows of earlier machines; never run again (default: here)",
    )
    add("--profile", choices=list(PROFILES), default="two-core", help="sizes (default: two-core)")
    add("--variants", default="", help=f"some of {', '.join(VARIANTS)} (default: all)")
    add("--hours", type=float, default=0.0, help="stop after so long and exit 75; 0 has no limit")
    add(
        "--jobs",
        type=_positive,
        default=cores(),
        help="stages side by side, which share the cores (default: one a core)",
    )
    add("--development", action="store_true", help="on the development set, where things are chosen")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: use 1 or more")
    return value
