"""The command line: ``python -m corpora.mocap --size tiny|demo|small|full --out URL``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from corpora.mocap.build import CorpusError, Progress, build
from corpora.mocap.corpus_plan import SIZES
from corpora.mocap.encode import EncodeError
from corpora.mocap.motion.motions import MotionDataError
from corpora.mocap.page import write_page


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 made; 2 bad usage; 1 failed.
    """
    options = _parser().parse_args(arguments)
    local = _local_folder(options.out)
    began = time.monotonic()
    try:
        with _Bar() as bar:
            summary = build(local, options.size, options.seed, options.workers, bar.update, only=options.only)
        if not (options.no_page or options.only):
            write_page(local)
        if local != _as_path(options.out):
            _upload(local, options.out)
    except (CorpusError, MotionDataError) as error:
        print(f"corpora.mocap: {error}", file=sys.stderr)
        return 2
    except EncodeError as error:
        print(f"corpora.mocap: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(summary | {"out": options.out}))
    else:
        found: Any = summary["counts"]
        counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in found.items())
        print(f"{options.out}: {counts}, in {time.monotonic() - began:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m corpora.mocap", description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), required=True)
    parser.add_argument("--out", required=True, metavar="URL", help="folder, or URL that fsspec can write to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes; default: all cores"
    )
    parser.add_argument(
        "--only", choices=("trimmed", "untrimmed"), help="leave the other kind out, and the page"
    )
    parser.add_argument("--no-page", action="store_true", help="leave the HTML page out")
    parser.add_argument("--json", action="store_true", help="print one object to stdout")
    return parser


def _as_path(out: str) -> Path | None:
    """The local folder an ``--out`` names, or None for a remote one."""
    if out.startswith("file://"):
        return Path(out.removeprefix("file://"))
    return None if "://" in out else Path(out)


def _local_folder(out: str) -> Path:
    """Where the corpus is made; for a remote place a folder that the next run finds again."""
    name = hashlib.sha256(out.encode()).hexdigest()[:12]
    return _as_path(out) or Path(tempfile.gettempdir()) / f"pal-mocap-{name}"


def _upload(local: Path, url: str) -> None:
    """Copy the corpus to object storage, ``corpus.json`` last."""
    from pal_ds.storage import upload_file

    files = sorted(
        (path for path in local.rglob("*") if path.is_file()), key=lambda path: path.name == "corpus.json"
    )
    for path in files:
        upload_file(path, f"{url.rstrip('/')}/{path.relative_to(local).as_posix()}")


class _Bar:
    """A progress bar on a terminal, a line every 10 % elsewhere; always on stderr."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._terminal = sys.stderr.isatty()
        columns = ("videos", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not self._terminal)
        self._bar.start()
        self._task = self._bar.add_task("videos")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def update(self) -> Progress:
        """What :func:`corpora.mocap.build.build` calls."""
        return self._update

    def _update(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        step = max(1, total // 10)
        if not self._terminal and (done % step == 0 or done == total):
            print(f"{done}/{total} videos", file=sys.stderr, flush=True)
