"""The command ``pal-shard``; docs/sharding.md teaches it."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pal_ds import __version__
from pal_ds.ffmpeg.process import ToolError
from pal_ds.formats import closed_pipe

from .adoption import command as adopt_command
from .errors import BuildError, UsageError
from .lifecycle import command as change_command
from .options import add_build_arguments, as_reshard, build_options
from .shared_arguments import workers_of

_EPILOG = """\
examples:
  pal-shard build videos/ shards/                              a folder of videos, one split 'train'
  pal-shard build videos/ s3://bucket/set --val-fraction 0.1   hold out a tenth, by whole source videos
  pal-shard build kinetics-400_train.csv s3://bucket/k400 --video-root s3://bucket/videos --with-labels
  pal-shard build clips.csv shards/ --dry-run    what would be made (columns: path[,start,end,split,label])
  pal-shard build films/ shards/ --shots --chunk 10 --min-seconds 2 --min-motion 0.1 --dedupe near
  pal-shard build videos/ shards/ --num-tasks 8 --task-index $SLURM_ARRAY_TASK_ID, then: pal-shard finish shards/
  pal-shard verify shards/ --decode                            read all of it again
  pal-shard reshard shards/ smaller/ --shard-bytes 32MiB       deal the same clips anew, bytes unchanged
  pal-shard adopt s3://old/tars/ s3://bucket/set               point at tars that exist, nothing is copied
  pal-shard append more/ shards/                               new clips, as a new generation
  pal-shard remove shards/ --keys takedown.txt --now           take clips down; 'compact' frees their bytes
  pal-shard preview shards/ --out sheet.html
  pal-shard retry videos/ shards/ --timeout 1800 --only transcode     try rejects again, of one stage or error
  pal-shard stats shards/ ; pal-shard ls shards/ --shard train-000000.tar
  pal-shard ls shards/ --where 'min_seconds: 4, min_side: 112'    what a run with these conditions would use

Run the same 'build' again after any interruption: finished shards are kept, and the result is the same to the byte.
Places are paths or URLs (s3://, gs://, az://, file://; hf:// is only read); S3 takes AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL from the environment.

exit status: 0 all inputs are in shards; 3 finished, some inputs are listed in rejects.jsonl; 2 bad usage; 1 failed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; never raises for what users can cause."""
    parser = _parser()
    arguments = parser.parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pal-shard",
        description="Turns a video corpus into a shard set for training, and looks after shard sets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pal-shard {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = _command(commands, "build", "make a shard set, or finish one that was begun", _build)
    add_build_arguments(build)
    reshard = _command(
        commands, "reshard", "make a shard set from another: new shard size, split, subset or profile", _build
    )
    add_build_arguments(reshard)
    retry = _command(
        commands, "retry", "try rejects of a passing cause again (give the build's arguments)", _retry
    )
    add_build_arguments(retry)
    retry.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="retry the rejects of this stage, or with this in their error, whatever the cause (repeatable)",
    )
    adopt_command.add_arguments(
        _command(commands, "adopt", "make a set of tars that exist, where they lie", _adopt)
    )
    append = _command(commands, "append", "put new clips into a finished set", _append)
    append.description = change_command.APPEND
    add_build_arguments(append)
    remove = _command(commands, "remove", "take clips down", _remove)
    change_command.add_remove_arguments(remove)
    compact = _command(
        commands, "compact", "move the clips that stay out of tars with removed ones, delete those", _compact
    )
    for command in (remove, compact):
        change_command.add_change_arguments(command)
    finish = _command(commands, "finish", "check that all tasks are done and write the manifest", _finish)
    verify = _command(commands, "verify", "read a set again: checksums, indexes, counts", _verify)
    verify.add_argument("--decode", action="store_true", help="decode every clip too")
    verify.add_argument("--workers", type=int, default=None, help="shards at a time (default: cores)")
    stats = _command(commands, "stats", "totals, histograms and a table of rejects", _stats)
    ls = _command(commands, "ls", "list the shards, or the samples of one", _ls)
    ls.add_argument("--shard", metavar="NAME", help="list this shard's samples")
    ls.add_argument(
        "--where",
        metavar="CONDITIONS",
        help="count (or list) the clips that a run with these conditions would use, as in data.shards: "
        "'min_seconds: 4, labels: [run, jump]'; others are max_seconds, min_frames, min_fps, max_fps, min_side, "
        "source and exclude_source (patterns), keys and exclude_keys (files of keys)",
    )
    preview = _command(commands, "preview", "draw a contact sheet of random clips", _preview)
    preview.add_argument("--out", required=True, metavar="FILE", help="where to, ending in .html or .png")
    preview.add_argument("--clips", type=int, default=24, metavar="N", help="how many (default: 24)")
    preview.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    clean = _command(
        commands, "clean", "remove what interrupted builds left behind, unfinished uploads too", _clean
    )
    clean.add_argument("--unfinished", action="store_true", help="remove an unfinished build as a whole")
    for command in (finish, verify, stats, ls, preview, clean, remove, compact):
        command.add_argument("dest", metavar="DEST", help="the shard set's folder")
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    for command in (finish, verify, remove, compact):
        command.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.set_defaults(run=run)
    return command


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
        [f"removed {len(removed)}: {', '.join(removed)}"],
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
