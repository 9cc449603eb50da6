"""The command ``pal-shard``; docs/sharding.md teaches it."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pal_ds.command_line.parser import CommandParser
from pal_ds.ffmpeg.process import ToolError
from pal_ds.formats import closed_pipe

from . import examples
from .adoption import command as adopt_command
from .errors import BuildError, UsageError
from .lifecycle import command as change_command
from .options import add_build_arguments, as_reshard, build_options
from .shared_arguments import workers_of

_CLOSING = """\
Run the same 'build' again after any interruption: finished shards are kept, and the result is the same to the byte.
Places are paths or URLs (s3://, gs://, az://, file://; hf:// is only read); docs/places.md says how to log in.

exit status: 0 all inputs are in shards; 3 finished, some inputs are listed in rejects.jsonl; 2 bad usage; 1 failed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; never raises for what users can cause."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    from pal_ds.formats.shardset import ShardSetError
    from pal_ds.storage import StorageAccessError, StorageError, StorageNotFoundError

    try:
        return int(arguments.run(arguments))
    except (UsageError, ShardSetError) as error:
        return _failed(arguments, error, 2)
    except (StorageAccessError, StorageNotFoundError) as error:
        return _failed(arguments, error, 2)
    except (BuildError, ToolError, StorageError) as error:
        return _failed(arguments, error, 1)
    except OSError as error:
        return _failed(arguments, error, 1)
    except KeyboardInterrupt:
        return _failed(arguments, BuildError("interrupted: run the same command again to go on"), 1)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _failed(arguments: argparse.Namespace, error: Exception, status: int) -> int:
    message = " ".join(str(error).split())
    print(f"pal-shard: error: {message}", file=sys.stderr)
    if getattr(arguments, "json", False):
        print(json.dumps({"error": message, "exit_status": status}))
    return status


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-shard",
        description="Turns a video corpus into a shard set for training, and looks after shard sets.",
        examples=examples.TOP,
        closing=_CLOSING,
        top=True,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, about: str, run: Callable[[argparse.Namespace], int], text: str = ""
    ) -> CommandParser:
        made: CommandParser = commands.add_parser(
            name,
            help=about,
            description=text or f"{about[0].upper()}{about[1:]}.",
            examples=examples.COMMANDS[name],
        )
        made.set_defaults(run=run)
        return made

    _add_builders(command)
    _add_changers(command)
    _add_readers(command)
    return parser


def _add_builders(command: Callable[..., CommandParser]) -> None:
    add_build_arguments(command("build", "make a shard set, or finish one that was begun", _build))
    add_build_arguments(
        command("reshard", "make a shard set from another: new shard size, split, subset or profile", _build)
    )
    retry = command("retry", "try rejects of a passing cause again (give the build's arguments)", _retry)
    add_build_arguments(retry)
    retry.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="retry the rejects of this stage, or with this in their error, whatever the cause (repeatable)",
    )
    adopt = command(
        "adopt", "make a set of tars that exist, where they lie", _adopt, adopt_command.DESCRIPTION
    )
    adopt_command.add_arguments(adopt)
    add_build_arguments(
        command("append", "put new clips into a finished set", _append, change_command.APPEND)
    )


def _add_changers(command: Callable[..., CommandParser]) -> None:
    remove = command("remove", "take clips down", _remove, change_command.REMOVE)
    change_command.add_remove_arguments(remove)
    compact = command(
        "compact", "move the clips that stay out of tars with removed ones, delete those", _compact
    )
    for parser in (remove, compact):
        change_command.add_change_arguments(parser)
    finish = command("finish", "check that all tasks are done and write the manifest", _finish)
    clean = command("clean", "remove what interrupted builds left behind, unfinished uploads too", _clean)
    clean.add_argument("--unfinished", action="store_true", help="remove an unfinished build as a whole")
    for parser in (remove, compact, finish, clean):
        _add_dest(parser)
    for parser in (remove, compact, finish):
        _add_quiet(parser)


def _add_readers(command: Callable[..., CommandParser]) -> None:
    verify = command("verify", "read a set again: checksums, indexes, counts", _verify)
    verify.add_argument("--decode", action="store_true", help="decode every clip too")
    verify.add_argument("--workers", type=int, default=None, help="shards at a time (default: cores)")
    stats = command("stats", "totals, histograms and a table of rejects", _stats)
    ls = command("ls", "list the shards, or the samples of one", _ls)
    ls.add_argument("--shard", metavar="NAME", help="list this shard's samples")
    ls.add_argument(
        "--where",
        metavar="CONDITIONS",
        help="count (or list) the clips that a run with these conditions would use, as in data.shards: "
        "'min_seconds: 4, labels: [run, jump]'; others are max_seconds, min_frames, min_fps, max_fps, min_side, "
        "source and exclude_source (patterns), keys and exclude_keys (files of keys)",
    )
    preview = command("preview", "draw a contact sheet of random clips", _preview)
    preview.add_argument("--out", required=True, metavar="FILE", help="where to, ending in .html or .png")
    preview.add_argument("--clips", type=int, default=24, metavar="N", help="how many (default: 24)")
    preview.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    for parser in (verify, stats, ls, preview):
        _add_dest(parser)
    _add_quiet(verify)


def _add_dest(parser: CommandParser) -> None:
    parser.add_argument("dest", metavar="DEST", help="the shard set's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _add_quiet(parser: CommandParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _build(arguments: argparse.Namespace) -> int:
    from .builder.build import build
    from .inspection import console_report

    if arguments.command == "reshard":
        as_reshard(arguments)
    result = build(build_options(arguments))
    _print(
        arguments, {**result.to_json(), "exit_status": result.exit_status}, console_report.build_lines(result)
    )
    return result.exit_status if result.state != "planned" else 0


def _adopt(arguments: argparse.Namespace) -> int:
    from .adoption.adopt import adopt
    from .inspection import console_report

    result = adopt(adopt_command.adopt_options(arguments))
    _print(
        arguments, {**result.to_json(), "exit_status": result.exit_status}, console_report.build_lines(result)
    )
    return result.exit_status


def _append(arguments: argparse.Namespace) -> int:
    from pal_ds.formats.shardset import load_manifest

    from .inspection import console_report
    from .lifecycle.append import append
    from .lifecycle.inheriting import inherit

    if len(arguments.places) < 2:
        raise UsageError("give at least one SOURCE and then DEST")
    inherit(arguments, load_manifest(arguments.places[-1]))
    result = append(build_options(arguments))
    _print(
        arguments, {**result.to_json(), "exit_status": result.exit_status}, console_report.build_lines(result)
    )
    return result.exit_status if result.state != "planned" else 0


def _remove(arguments: argparse.Namespace) -> int:
    from .lifecycle.remove import remove

    result = remove(change_command.remove_options(arguments))
    _print(arguments, result.to_json(), change_command.change_lines(result))
    return 0


def _compact(arguments: argparse.Namespace) -> int:
    from .lifecycle.remove import compact

    workers = workers_of(arguments)
    result = compact(arguments.dest, workers=workers, quiet=arguments.quiet or arguments.json)
    _print(arguments, result.to_json(), change_command.change_lines(result))
    return 0


def _retry(arguments: argparse.Namespace) -> int:
    from .builder.retry_rejects import retry
    from .inspection import console_report

    result = retry(build_options(arguments), arguments.only)
    _print(
        arguments, {**result.to_json(), "exit_status": result.exit_status}, console_report.build_lines(result)
    )
    return result.exit_status if result.state != "planned" else 0


def _preview(arguments: argparse.Namespace) -> int:
    from .inspection.preview import preview

    count = preview(arguments.dest, arguments.out, clips=arguments.clips, seed=arguments.seed)
    _print(arguments, {"out": arguments.out, "clips": count}, [f"{arguments.out}: {count} clips"])
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    from .lifecycle.cleaning import clean

    removed = clean(arguments.dest, unfinished=arguments.unfinished)
    _print(
        arguments,
        {"dest": arguments.dest, "removed": removed},
        [f"removed {len(removed)}: {', '.join(removed)}" if removed else "nothing to remove"],
    )
    return 0


def _finish(arguments: argparse.Namespace) -> int:
    from .inspection import console_report
    from .lifecycle.append import finish

    result = finish(arguments.dest)
    _print(
        arguments, {**result.to_json(), "exit_status": result.exit_status}, console_report.build_lines(result)
    )
    return result.exit_status


def _verify(arguments: argparse.Namespace) -> int:
    from .inspection import console_report
    from .inspection.verify import verify

    result = verify(
        arguments.dest,
        decode=arguments.decode,
        workers=workers_of(arguments),
        quiet=arguments.quiet or arguments.json,
    )
    _print(arguments, result.to_json(), console_report.verify_lines(result))
    return 1 if result.problems else 0


def _stats(arguments: argparse.Namespace) -> int:
    from .inspection import console_report
    from .inspection.statistics import statistics

    found = statistics(arguments.dest)
    _print(arguments, found, console_report.stats_lines(found))
    return 0


def _ls(arguments: argparse.Namespace) -> int:
    from .inspection import console_report
    from .inspection.statistics import listing

    if arguments.where is None:
        found = listing(arguments.dest, arguments.shard)
    else:
        from .inspection.chosen import chosen

        found = chosen(arguments.dest, arguments.where, arguments.shard, quiet=arguments.json)

    def show() -> int:
        _print(arguments, found, console_report.listing_lines(found))
        return 0

    return closed_pipe.listing(show)


def _print(arguments: argparse.Namespace, document: dict[str, Any], lines: list[str]) -> None:
    if arguments.json:
        print(json.dumps(document))
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
