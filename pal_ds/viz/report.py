"""The report of a run folder: ``python -m pal_ds.viz.report RUN --out report.html``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pal_ds import storage
from pal_ds.viz.report_page import write_report
from pal_ds.viz.run_facts import RunError, collect_run


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run folder; exit status 0, or 2 where the run can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m pal_ds.viz.report",
        description="Write one self-contained HTML page about a pre-training run, finished or not.",
        epilog="example: python -m pal_ds.viz.report s3://bucket/runs/pal-1 --out report.html",
    )
    parser.add_argument("run", metavar="RUN", help="run folder: path or URL")
    parser.add_argument("--out", default="report.html", help="file to write (default: report.html)")
    arguments = parser.parse_args(argv)
    try:
        write_report(collect_run(arguments.run), arguments.out)
    except (RunError, storage.StorageError) as error:
        sys.stderr.write(f"report: {error}\n")
        return 2
    sys.stdout.write(f"report: {storage.redact(arguments.out)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
