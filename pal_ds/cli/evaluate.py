"""``pal-eval``: score predictions with the official evaluators' figures, and look for missing features."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pal_ds.cli import untrimmed_lists
from pal_ds.command_line.parser import CommandParser, Example
from pal_ds.config.datasets import DATASETS

if TYPE_CHECKING:
    from pal_ds.transfer.metrics.evaluate import Report

DESCRIPTION = (
    "Score temporal action localization, grounding and classification as the official evaluators do."
)
_EXAMPLES = {
    "detection": (
        Example(
            "ActivityNet v1.3, official files (tIoU 0.5:0.95:0.05, subset validation)",
            "pal-eval detection --ground-truth activity_net.v1-3.min.json --predictions detections.json",
        ),
        Example(
            "THUMOS'14, with a page of classes, reliability and kinds of error",
            "pal-eval detection --ground-truth thumos14.json --subset Test --tiou 0.3:0.7:0.1 "
            "--predictions detections.json --html report.html",
        ),
        Example(
            "EPIC-KITCHENS-100, verbs, a submission in the challenge's form",
            "pal-eval detection --dataset epic_kitchens_verb --ground-truth EPIC_100_validation.csv "
            "--predictions submission.json",
        ),
    ),
    "proposals": (
        Example(
            "ActivityNet, AR@1/5/10/100 and AUC",
            "pal-eval proposals --ground-truth activity_net.v1-3.min.json --predictions proposals.json",
        ),
        Example(
            "as one JSON object",
            "pal-eval proposals --ground-truth activity_net.v1-3.min.json --predictions proposals.json --json",
        ),
    ),
    "retrieval": (
        Example(
            "Ego4D Moment Queries",
            "pal-eval retrieval --dataset ego4d_mq --ground-truth moments_val.json --predictions detections.json",
        ),
        Example(
            "other thresholds",
            "pal-eval retrieval --dataset ego4d_mq --ground-truth moments_val.json --predictions detections.json "
            "--tiou 0.5:0.5:0.1",
        ),
    ),
    "grounding": (
        Example(
            "Charades-STA, R@1 at 0.3/0.5/0.7 and mIoU",
            "pal-eval grounding --ground-truth charades_sta_test.txt --predictions spans.json",
        ),
        Example(
            "as a page",
            "pal-eval grounding --ground-truth charades_sta_test.txt --predictions spans.json --html report.html",
        ),
    ),
    "classification": (
        Example(
            "labels of whole videos",
            "pal-eval classification --ground-truth activity_net.v1-3.min.json --predictions labels.json",
        ),
        Example(
            "all subsets, as one JSON object",
            "pal-eval classification --ground-truth labels.json --subset all --predictions labels.json --json",
        ),
    ),
    "missing": (
        Example(
            "HACS as distributed",
            "pal-eval missing --annotations HACS_segments_v1.1.1.json --dataset hacs --features features/hacs",
        ),
        Example(
            "one subset, in a bucket, every id as JSON",
            "pal-eval missing --annotations thumos14.json --features s3://bucket/features/thumos "
            "--subset Test --json",
        ),
    ),
}
_FORMS = """
predictions, all tasks:
  {"results": {"VIDEO": [{"segment": [START, END], "score": 0.9,
                          "label": "Long jump"}, ...], ...}}
  in seconds; proposals need no label; grounding has "sentence" or "query_id"
  in its place; classification needs no segment.

ground truth: with --dataset the benchmark's own files, as distributed; else ActivityNet's official JSON
({"database": {"VIDEO": {"subset", "annotations": [{"segment", "label"}]}}}; THUMOS'14 goes round in the
same form), a TSP list (*.csv) or Charades-STA (*.txt).
"""
_CLOSING = """
All figures are in percent.

exit status: 0 scored, nothing missing; 2 wrong usage or malformed file; 3 something is missing
"""
EXIT_MISSING = 3
TASKS = {
    "detection": "mean average precision per tIoU (ActivityNet, THUMOS'14)",
    "proposals": "average recall at 1/5/10/100 proposals a video, and its area (AUC)",
    "retrieval": "Recall@kx of all moments of a class (Ego4D Moment Queries)",
    "grounding": "R@1 per tIoU and mIoU (Charades-STA)",
    "classification": "top-1 and top-5 accuracy of video labels",
}


def build_parser() -> CommandParser:
    """Build the command line: one sub-command per task, with examples in the help."""
    parser = CommandParser(
        prog="pal-eval",
        description=DESCRIPTION,
        examples=(_EXAMPLES["detection"][0], _EXAMPLES["grounding"][0], _EXAMPLES["missing"][0]),
        closing=f"{_FORMS}\n{_CLOSING.strip()}",
        top=True,
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, text in TASKS.items():
        task = tasks.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            examples=_EXAMPLES[name],
            closing=f"{_FORMS}\n{_CLOSING.strip()}",
        )
        task.add_argument("--ground-truth", required=True, metavar="GT", help="annotations: path or URL")
        task.add_argument("--predictions", required=True, metavar="PRED", help="predictions: path or URL")
        task.add_argument(
            "--subset",
            metavar="NAME",
            help="subset of the ground truth, spelled as there, or 'all' (default: the data set's, else validation)",
        )
        if name != "grounding":
            _add_dataset(task)
        if name != "classification":
            task.add_argument(
                "--tiou",
                metavar="START:STOP:STEP",
                help="thresholds, STOP included (default: the data set's, else 0.5:0.95:0.05; grounding and "
                "retrieval 0.3:0.7:0.2)",
            )
        task.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        task.add_argument("--html", metavar="FILE", help="also write a self-contained page")
    _add_missing(tasks)
    untrimmed_lists.add_commands(tasks)
    return parser


def _add_dataset(parser: CommandParser) -> None:
    parser.add_argument(
        "--dataset",
        default="",
        metavar="NAME",
        help=f"benchmark whose files these are: {', '.join(DATASETS)} (default: the form is told by the file's name)",
    )


def _add_missing(tasks: Any) -> None:
    missing = tasks.add_parser(
        "missing",
        help="annotated videos without features, and features without annotations",
        description="List annotated videos without features, and features without annotations. "
        "Exit status 3 where there are any.",
        examples=_EXAMPLES["missing"],
    )
    missing.add_argument("--annotations", required=True, metavar="GT", help="annotations: path or URL")
    missing.add_argument(
        "--features", required=True, metavar="FOLDER", help="folder URL of v_<id>.npy and v_<id>.json"
    )
    missing.add_argument(
        "--subset", default="all", metavar="NAME", help="whose videos must have features (default: all)"
    )
    _add_dataset(missing)
    missing.add_argument("--json", action="store_true", help="print one JSON object with every id")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pal-eval``; see ``pal-eval --help``.

    Returns:
        0 scored, or nothing missing; 2 a file is malformed or an option is wrong (one line on stderr says which); 3
        features or annotations are missing.
    """
    options = build_parser().parse_args(arguments)
    if options.task in untrimmed_lists.COMMANDS:
        return untrimmed_lists.run(options)
    try:
        return _missing(options) if options.task == "missing" else _score(options)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"pal-eval: error: {' '.join(str(error).split())}\n")
        return 2


def _missing(options: argparse.Namespace) -> int:
    from pal_ds.storage import StorageError
    from pal_ds.transfer.feature_coverage import coverage

    try:
        found = coverage(
            options.annotations, options.features, subset=options.subset, dataset=options.dataset
        )
    except StorageError as error:
        raise ValueError(str(error)) from None
    sys.stdout.write(json.dumps(found.to_json()) + "\n" if options.json else found.table() + "\n")
    return 0 if found.complete else EXIT_MISSING


def _score(options: argparse.Namespace) -> int:
    from pal_ds.transfer.metrics.evaluate import evaluate

    report: Report = evaluate(
        options.task,
        options.ground_truth,
        options.predictions,
        subset=options.subset,
        tiou=getattr(options, "tiou", None),
        dataset=getattr(options, "dataset", ""),
    )
    if options.html:
        from pal_ds.transfer.metrics.html_page import write_page

        write_page(report, options.html)
    for warning in report.warnings:
        sys.stderr.write(f"pal-eval: warning: {warning}\n")
    sys.stdout.write(json.dumps(report.figures) + "\n" if options.json else report.table() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
