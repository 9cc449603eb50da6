"""The paper's central comparison, as one command: ``python -m benchmarks.fidelity --work DIR``.

Corpus, shards, pre-training of each variant, frozen features, heads, probes and Fig. 3 are the normal commands, each
in its own process, each done once for its inputs. Stop it when you like; the same command goes on. Several may run on
one work folder, such as one for each seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.fidelity.budget import BUDGETS, Budget
from benchmarks.fidelity.pipeline import Road, build_road, corpus_stage, given_corpus
from benchmarks.fidelity.results import (
    DECIDING,
    FIGURES,
    Row,
    both_ways,
    markdown,
    orderings,
    read_row,
    summarise,
)
from benchmarks.fidelity.stage import EXIT_PREEMPTED, OutOfTime, Runner, Stage, StageError
from benchmarks.fidelity.variants import VARIANTS

_SIZES = tuple(field.name for field in dataclasses.fields(Budget))
_EPILOG = """
examples
  The main rows with two seeds, on a corpus made before:
    python -m benchmarks.fidelity --work runs/fidelity --corpus mocap-small --variants random,moco,pal,tac --seeds 0,1

  One variant and seed, for at most ten minutes (exit 75: run it again):
    python -m benchmarks.fidelity --work runs/fidelity --corpus mocap-small --variants pal --seeds 0 --minutes 10

  Does the length decide the order? A quarter of it, then both side by side:
    python -m benchmarks.fidelity --work runs/fidelity --corpus mocap-small --seeds 0 --set steps=150
    python -m benchmarks.fidelity --work runs/fidelity --corpus mocap-small --report-only --beside steps=150

  The page from what is there, without running anything:
    python -m benchmarks.fidelity --work runs/fidelity --corpus mocap-small --report-only

exit status: 0 all asked for is done; 75 out of time, run it again; 2 bad usage; 1 a stage failed
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = _parser().parse_args(argv)
    try:
        budget = _with_sizes(BUDGETS[arguments.budget], arguments.set)
        for word in arguments.beside:
            _with_sizes(budget, [word])
        corpus = (
            given_corpus(arguments.corpus)
            if arguments.corpus
            else corpus_stage(arguments.size, arguments.workers)
        )
        names, seeds = _names(arguments.variants), [int(seed) for seed in arguments.seeds.split(",")]
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"fidelity: {error}\n")
        return 2
    runner = Runner(arguments.work.resolve(), minutes=arguments.minutes)
    roads = [
        build_road(corpus, VARIANTS[name], seed, budget, ranks=arguments.ranks)
        for seed in seeds
        for name in names
    ]
    if arguments.plan:
        _print_plan(runner, roads)
        return 0
    status = 0 if arguments.report_only else _run(runner, roads)
    _report(runner, corpus, budget, names, seeds, arguments)
    return status


def _run(runner: Runner, roads: list[Road]) -> int:
    try:
        for road in roads:
            for stage in road.stages:
                runner.run(stage)
    except OutOfTime as reached:
        sys.stderr.write(f"fidelity: out of time: {reached}\n")
        return EXIT_PREEMPTED
    except StageError as error:
        sys.stderr.write(f"fidelity: {error}\n")
        return 1
    return 0


def _print_plan(runner: Runner, roads: list[Road]) -> None:
    shown: set[str] = set()

    def show(stage: Stage) -> None:
        for needed in stage.inputs:
            show(needed)
        if stage.key not in shown:
            shown.add(stage.key)
            print(f"{'done' if runner.done(stage) else 'to do'}  {shlex.join(stage.command(runner.work))}")

    for road in roads:
        for stage in road.stages:
            show(stage)


def _report(
    runner: Runner,
    corpus: Stage,
    budget: Budget,
    names: list[str],
    seeds: list[int],
    arguments: argparse.Namespace,
) -> None:
    """Write results.json, results.md and index.html from all rows of this corpus and budget, now or before."""
    from pal_ds.viz.report_page import write_report

    from benchmarks.fidelity.page import build_page

    def rows_of(sizes: Budget) -> list[Row]:
        every = sorted({*seeds, *range(arguments.most_seeds)})
        return [
            read_row(build_road(corpus, variant, seed, sizes, ranks=arguments.ranks), runner)
            for variant in VARIANTS.values()
            for seed in every
        ]

    rows = rows_of(budget)
    missing = [
        f"{row.variant} seed {row.seed}"
        for row in rows
        if row.variant in names and row.seed in seeds and not row.complete
    ]
    rows = [row for row in rows if row.figures]
    summary = summarise(rows)
    beside = {
        word: summarise([row for row in rows_of(_with_sizes(budget, [word])) if row.figures])
        for word in arguments.beside
    }
    commits = sorted({commit for row in rows for commit in row.commits.values()})
    document: dict[str, Any] = {
        "facts": {
            "corpus": f"pal-mocap {corpus.owner}",
            "commit": ", ".join(commits),
            "machine": next((row.machine for row in rows), ""),
            "hours": round(sum(sum(row.seconds.values()) for row in rows) / 3600, 2),
            **dataclasses.asdict(budget),
        },
        "evaluated": "Heads are trained on the training videos and scored on the validation videos of pal-mocap.",
        "chance": "5.6 % with 18 classes",
        "summary": summary,
        "orderings": {key: orderings(summary, key) for key in DECIDING},
        "beside": {
            word: {"summary": other, "orders": {key: both_ways(summary, other, key) for key in DECIDING}}
            for word, other in beside.items()
        },
        "rows": [
            {
                "variant": row.variant,
                "seed": row.seed,
                **row.figures,
                "seconds": row.seconds,
                "commits": row.commits,
            }
            for row in rows
        ],
        "missing": missing,
    }
    work = runner.work
    (work / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    table = markdown(summary)
    (work / "results.md").write_text(table)
    write_report(build_page(document, rows), str(work / "index.html"))
    if arguments.json:
        print(json.dumps(document))
    else:
        print(f"{table}\n{len(FIGURES)} figures a row; page: {work / 'index.html'}")


def _with_sizes(budget: Budget, words: list[str]) -> Budget:
    """Return the budget with single values replaced by ``name=value`` words."""
    given: dict[str, float | int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _SIZES:
            raise ValueError(f"--set or --beside {word}: use NAME=VALUE with one of {', '.join(_SIZES)}")
        given[name] = float(value) if name == "width" else int(value)
    return dataclasses.replace(budget, **given)  # type: ignore[arg-type]  # names and kinds are checked above


def _names(text: str) -> list[str]:
    names = list(VARIANTS) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise ValueError(f"--variants {unknown[0]}: use {', '.join(VARIANTS)}, or all")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder of all results; keep it, it is the cache")
    add("--corpus", type=Path, help="a pal-mocap corpus that is there; default: make one")
    add(
        "--size",
        choices=("tiny", "small", "full"),
        default="small",
        help="of the corpus made without --corpus",
    )
    add("--variants", default="random,moco,pal,tac", help=f"of {', '.join(VARIANTS)}; or all")
    add("--seeds", default="0,1", help="comma-separated (default: 0,1)")
    add(
        "--most-seeds",
        type=int,
        default=5,
        help="seeds below this are looked for when the page is written (default: 5)",
    )
    add("--budget", choices=list(BUDGETS), default="two-core", help="sizes (default: two-core)")
    add(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=f"of the budget: {', '.join(_SIZES)}"
    )
    add(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="put the orderings found with this --set, run before, beside the others; nothing is run for it",
    )
    add(
        "--ranks", type=int, default=1, help="processes of a pre-training; more than one go through deepspeed"
    )
    add("--workers", type=int, default=2, help="processes that make the corpus")
    add("--minutes", type=float, default=0.0, help="stop after so long and exit 75; 0 has no limit")
    add("--plan", action="store_true", help="print the commands and stop")
    add("--report-only", action="store_true", help="run nothing; write the page from what is there")
    add("--json", action="store_true", help="print results.json to stdout")
    return parser
