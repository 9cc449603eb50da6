"""``pal-shard append``, ``remove`` and ``compact``: their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..shared_arguments import workers_of

if TYPE_CHECKING:
    from .remove import ChangeResult, RemoveOptions

APPEND = """\
Puts the inputs of SOURCE that are not in the set yet into new shards of it, as a new generation. Tars that are there
stay as they are; runs that have begun go on with the generation they began with. Encodes, labels and splits as the
set was built, unless told otherwise. Run it again after any interruption.
"""
REMOVE = """\
Takes clips down. Their shards are written anew without them, under new names, and a new generation is published; in
older generations the clips are marked as removed, so that runs on them replace them. removals.jsonl gets a line each.
"""


def add_remove_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``remove`` understands."""
    parser.add_argument(
        "--keys",
        required=True,
        metavar="FILE",
        help="text file with a clip's key or source a line; empty lines and lines with # are passed over",
    )
    parser.add_argument("--now", action="store_true", help="only change indexes; compact moves the bytes")
    parser.add_argument(
        "--purge", action="store_true", help="delete the tars that held them too, as compact does"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="for removals.jsonl")
    parser.add_argument("--ignore-unknown", action="store_true", help="pass over names that are in no shard")


def add_change_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``remove`` and ``compact`` have in common."""
    parser.add_argument("--workers", type=int, default=None, help="shards at a time (default: cores)")


def remove_options(arguments: argparse.Namespace) -> RemoveOptions:
    """Turn parsed arguments into options.

    Raises:
        UsageError: they contradict each other, or the list can't be read.
    """
    from .remove import RemoveOptions

    try:
        text = Path(arguments.keys).read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"--keys {arguments.keys}: can't be read: {error.strerror}") from error
    names = {line.strip() for line in text.splitlines()}
    return RemoveOptions(
        dest=arguments.dest,
        names=sorted(name for name in names if name and not name.startswith("#")),
        now=arguments.now,
        purge=arguments.purge,
        reason=arguments.reason,
        ignore_unknown=arguments.ignore_unknown,
        workers=workers_of(arguments),
        quiet=arguments.quiet or arguments.json,
    )


def change_lines(result: ChangeResult) -> list[str]:
    """Describe what a removal or compaction came to."""
    lines = [
        f"{result.dest}: generation {result.generation}, {result.clips} clips; {result.removed} taken down, "
        f"{result.shards} shards replaced, {result.deleted} tars deleted"
    ]
    if result.unknown:
        lines.append(f"  {result.unknown} names are in no shard")
    if result.adopted:
        lines.append(
            f"  {result.adopted} of the shards lie in adopted tars, which are not changed: their bytes stay there"
        )
    if result.kept_tars:
        lines.append(
            f"  {result.kept_tars} tars of older generations still hold them: pal-shard compact deletes them"
        )
    return lines
