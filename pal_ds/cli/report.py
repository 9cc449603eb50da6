"""Draw a pre-training run as one page: ``pal-report RUN``; with ``--watch`` while it goes on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from pal_ds import storage
from pal_ds.command_line.parser import CommandParser, Example

_EXAMPLES = (
    Example("the run as it is now", "pal-report s3://bucket/runs/pal-1 --out report.html"),
    Example("again every 30 s until it ends; leave the page open", "pal-report runs/pal-1 --watch"),
    Example(
        "with four pairs of the latest step as the network sees them", "pal-report runs/pal-1 --strips 4"
    ),
)
_CLOSING = (
    "exit status: 0 written; 2 no run there, or the place can't be read or written; 130 stopped by Ctrl-C"
)


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-report",
        description="Write one self-contained HTML page about a pre-training run, finished or not.",
        examples=_EXAMPLES,
        closing=_CLOSING,
        top=True,
    )
    parser.add_argument("run", metavar="RUN", help="run folder: path or URL")
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="report.html",
        help="file to write, path or URL (default: report.html)",
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=float,
        nargs="?",
        const=30.0,
        help="write it again every so many seconds (30) until the run is done or failed",
    )
    parser.add_argument(
        "--strips",
        metavar="N",
        type=int,
        default=0,
        help="add film strips of N training pairs of the latest step, read from the run's shard set (default: 0)",
    )
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see the module's text."""
    parser = build_parser()
    args = parser.parse_args(words)
    if args.watch is not None and args.watch < 1:
        parser.error(f"--watch {args.watch:g}: use at least 1 second")
    if args.strips < 0:
        parser.error(f"--strips {args.strips}: use 0 or a number of pairs")
    return _write(args.run, args.out, args.watch, args.strips)


def _write(run: str, out: str, seconds: float | None, strips: int) -> int:
    from pal_ds.config import ConfigError
    from pal_ds.formats.shardset import ShardSetError
    from pal_ds.viz.live import watch
    from pal_ds.viz.report_page import ReportData, write_report
    from pal_ds.viz.run_facts import RunError, collect_run, read_config

    def collect() -> ReportData:
        data = collect_run(run)
        if not strips:
            return data
        from pal_ds.viz.training_pairs import training_pairs

        picture = training_pairs(read_config(run), step=data.step, count=strips)
        return data if picture is None else dataclasses.replace(data, strips=(picture,))

    def say(text: str) -> None:
        sys.stderr.write(f"report: {text}\n")

    try:
        if seconds is None:
            write_report(collect(), out)
        else:
            watch(collect, out, seconds=seconds, say=say)
    except (RunError, ConfigError, ShardSetError, storage.StorageError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"report: {storage.redact(out)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
