"""``pal-eval``: score predictions with the official evaluators' figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pal_ds import __version__
from pal_ds.cli import untrimmed_lists

if TYPE_CHECKING:
    from pal_ds.transfer.metrics.evaluate import Report

DESCRIPTION = (
    "Score temporal action localization, grounding and classification as the official evaluators do."
)
EPILOG = """\
examples:
  ActivityNet v1.3 detection, official files (tIoU 0.5:0.95:0.05, subset validation):
    pal-eval detection --ground-truth activity_net.v1-3.min.json --predictions detections.json
  THUMOS'14 detection:
    pal-eval detection --ground-truth thumos14.json --subset Test --tiou 0.3:0.7:0.1 --predictions PRED.json
  proposals, AR@1/5/10/100 and AUC, as one JSON object:
    pal-eval proposals --ground-truth activity_net.v1-3.min.json --predictions proposals.json --json
  Charades-STA grounding, R@1 at 0.3/0.5/0.7 and mIoU:
    pal-eval grounding --ground-truth charades_sta_test.txt --predictions spans.json
  a page with per-class table, reliability and error breakdown (--html goes with every task):
    pal-eval detection --ground-truth GT.json --predictions PRED.json --html report.html

predictions, all tasks:
  {"results": {"VIDEO": [{"segment": [START, END], "score": 0.9, "label": "Long jump"}, ...], ...}}
  seconds; proposals need no label; grounding names its query by "sentence" (or "query_id") in place of a
  label; classification needs no segment.

ground truth: ActivityNet's official JSON ({"database": {"VIDEO": {"subset", "annotations": [{"segment",
"label"}]}}}; THUMOS'14 goes round in the same form), a TSP list (*.csv) or Charades-STA (*.txt).

All figures are in percent. Exit status: 0 scored, 2 wrong usage or malformed file.
"""
TASKS = {
    "detection": "mean average precision per tIoU (ActivityNet, THUMOS'14)",
    "proposals": "average recall at 1/5/10/100 proposals a video, and its area (AUC)",
    "grounding": "R@1 per tIoU and mIoU (Charades-STA)",
    "classification": "top-1 and top-5 accuracy of video labels",
}


def build_parser() -> argparse.ArgumentParser:
    """Build the command line: one sub-command per task, with examples in the help."""
    parser = argparse.ArgumentParser(
        prog="pal-eval",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pal-eval {__version__}")
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, text in TASKS.items():
        task = tasks.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        task.add_argument("--ground-truth", required=True, metavar="GT", help="annotations: path or URL")
        task.add_argument("--predictions", required=True, metavar="PRED", help="predictions: path or URL")
        task.add_argument(
            "--subset",
            metavar="NAME",
            help="subset of a JSON ground truth, spelled as there, or 'all' (default: validation)",
        )
        if name != "classification":
            task.add_argument(
                "--tiou",
                metavar="START:STOP:STEP",
                help="thresholds, STOP included (default: 0.5:0.95:0.05; grounding 0.3:0.7:0.2)",
            )
        task.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        task.add_argument("--html", metavar="FILE", help="also write a self-contained page")
    untrimmed_lists.add_commands(tasks)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pal-eval``; see ``pal-eval --help``.

    Returns:
        0 scored; 2 a file is malformed or an option is wrong (one line on stderr says which).
    """
    options = build_parser().parse_args(arguments)
    if options.task in untrimmed_lists.COMMANDS:
        return untrimmed_lists.run(options)
    from pal_ds.transfer.metrics.evaluate import evaluate

    try:
        report: Report = evaluate(
            options.task,
            options.ground_truth,
            options.predictions,
            subset=options.subset,
            tiou=getattr(options, "tiou", None),
        )
        if options.html:
            from pal_ds.transfer.metrics.html_page import write_page

            write_page(report, options.html)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"pal-eval: error: {' '.join(str(error).split())}\n")
        return 2
    for warning in report.warnings:
        sys.stderr.write(f"pal-eval: warning: {warning}\n")
    sys.stdout.write(json.dumps(report.figures) + "\n" if options.json else report.table() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
