"""The arguments of ``pal-shard build`` and their way into typed options."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import TYPE_CHECKING

from pal_ds.command_line.parser import CommandParser

from .encoding.profiles import PROFILES, Profile
from .errors import UsageError
from .shared_arguments import (
    LENGTHS,
    add_length_arguments,
    add_member_arguments,
    add_output_arguments,
    add_task_arguments,
    add_timeout_argument,
    places_of,
    workers_of,
)

if TYPE_CHECKING:
    from .builder.build_options import BuildOptions
    from .measuring.cuts import CutOptions

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)

#: Options whose explanation --help leaves to --help-all.
_RARE = (
    *("--limit", "--dedupe", "--video-member", "--label-member"),
    *("--split", "--seed", "--keep-recordings", "--keep-labels"),
    *(
        "--shot-threshold",
        "--min-side",
        "--min-seconds",
        "--max-seconds",
        "--min-frames",
        "--min-motion",
        "--max-black",
    ),
    *("--copy", "--copy-if-conforming", "--fps", "--gop", "--crf", "--timeout"),
    *("--executor", "--scratch", "--overwrite", "--json", "--quiet"),
)


def parse_size(text: str) -> int:
    """Return the bytes of ``400KB`` (thousands), ``64MiB`` (1024s) or a plain number."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 400KB, 64MiB or a number of bytes")
    number, prefix, binary = found.groups()
    power = " KMGT".index(prefix.upper()) if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


#: What holds where neither an argument nor, for ``append``, the set says otherwise.
_DEFAULTS = {"dedupe": "identity", "shard_bytes": 64 << 20, "seed": 0, **LENGTHS}


def add_build_arguments(parser: CommandParser) -> None:
    """Declare what ``build`` understands."""
    parser.usage = "%(prog)s [options] SOURCE… DEST"
    parser.add_argument(
        "places",
        nargs="+",
        metavar="SOURCE… DEST",
        help="folders, URL prefixes, CSVs, tars or shard sets, then the new set",
    )
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--video-root", metavar="URL", help="where a CSV's videos lie (default: beside the CSV)"
    )
    inputs.add_argument(
        "--with-labels", action="store_true", help="keep class names (CSV column or class folder)"
    )
    inputs.add_argument("--limit", type=int, metavar="N", help="take only N inputs of the shuffled list")
    inputs.add_argument(
        "--dedupe",
        choices=["identity", "content", "near"],
        help="what makes two inputs duplicates: the same name and span (default); equal bytes too (content); or "
        "pictures that look alike too, whatever their encoding (near)",
    )
    add_member_arguments(parser.add_argument_group("tars as SOURCE"))
    _add_clip_arguments(parser)
    dealing = parser.add_argument_group("splits and shards")
    dealing.add_argument("--split", metavar="NAME", help="name of the one split (default: train)")
    dealing.add_argument("--split-column", action="store_true", help="follow the CSV's split column")
    dealing.add_argument(
        "--val-fraction", type=float, metavar="X", help="share of clips for 'val', by whole source videos"
    )
    dealing.add_argument(
        "--shard-bytes",
        type=parse_size,
        metavar="SIZE",
        help="aim of a shard's size (default: 64MiB)",
    )
    dealing.add_argument("--seed", type=int, help="of the shuffle and the choice of val (default: 0)")
    dealing.add_argument(
        "--keep-recordings",
        action="store_true",
        help="shuffle recordings, not clips: those of one recording lie side by side (for data.block_clips)",
    )
    dealing.add_argument(
        "--keep-labels",
        action="store_true",
        help="shuffle clips of one label four at a time: so many lie side by side (for data.block_clips=4); needs "
        "--with-labels",
    )
    _add_encoding_arguments(parser)
    _add_running_arguments(parser)
    parser.set_rare(*_RARE)


def _add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    cutting = parser.add_argument_group("long videos")
    cutting.add_argument(
        "--chunk",
        type=float,
        metavar="S",
        help="cut whole videos into pieces of S seconds; a last one below S/2 is added to the one before",
    )
    cutting.add_argument(
        "--shots",
        action="store_true",
        help="cut whole videos where one shot ends and the next begins (extra 'shots': PySceneDetect)",
    )
    cutting.add_argument(
        "--shot-threshold",
        type=float,
        metavar="X",
        help="of --shots: how much more than its neighbours a frame must change; lower cuts oftener (default: 3)",
    )
    filters = parser.add_argument_group("filters (what they keep out is a reject of stage 'filter')")
    filters.add_argument("--min-side", type=int, metavar="PX", help="shorter side of the source")
    filters.add_argument("--min-seconds", type=float, metavar="S", help="length of the clip")
    add_length_arguments(filters)
    filters.add_argument(
        "--min-motion",
        type=float,
        metavar="X",
        help="median change of luma in an eighth of a second, in grey levels: 0.1 rejects stills and slide shows",
    )
    filters.add_argument(
        "--max-black", type=float, metavar="X", help="share of the clip that may be black, 0 to 1"
    )


def _add_encoding_arguments(parser: argparse.ArgumentParser) -> None:
    encoding = parser.add_argument_group("encoding")
    encoding.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        metavar="NAME",
        help="fast: cheapest to decode (default); compact: a third smaller; paper-256: short side 256; copy: as is",
    )
    encoding.add_argument(
        "--copy", action="store_true", help="pack the files unchanged (the same as --profile copy)"
    )
    encoding.add_argument(
        "--copy-if-conforming",
        action="store_true",
        help="pack files unchanged that already are what the profile makes; encode the others",
    )
    encoding.add_argument("--short-side", type=int, metavar="PX", help="of the output (fast: 128)")
    encoding.add_argument("--fps", type=float, help="upper bound of the constant frame rate (30)")
    encoding.add_argument(
        "--gop", type=int, metavar="N", help="frames from key frame to key frame (fast: 16)"
    )
    encoding.add_argument("--crf", type=int, metavar="N", help="x264's quality, lower is better (23)")
    add_timeout_argument(encoding)


def _add_running_arguments(parser: argparse.ArgumentParser) -> None:
    running = parser.add_argument_group("running")
    running.add_argument(
        "--workers", type=int, default=None, help="ffmpeg processes at a time (default: cores)"
    )
    running.add_argument(
        "--executor", choices=["local", "ray"], default="local", help="where shards are made"
    )
    add_task_arguments(running)
    running.add_argument("--scratch", metavar="DIR", help="for clips under way (default: TMPDIR)")
    running.add_argument("--dry-run", action="store_true", help="only say what would be made")
    running.add_argument(
        "--overwrite", action="store_true", help="remove the shard set that lies at DEST first"
    )
    add_output_arguments(running)


def build_options(arguments: argparse.Namespace) -> BuildOptions:
    """Turn parsed arguments into options.

    Raises:
        UsageError: they contradict each other or are out of range.
    """
    # Deferred, so that --help does not wait for the storage libraries.
    from .builder.build_options import BuildOptions
    from .builder.shard_plan import PlanOptions
    from .catalog.gather import CatalogOptions
    from .encoding.clip_filters import ClipFilters
    from .encoding.transcode import ClipLimits
    from .foreign_tars.label_member import LabelMember
    from .foreign_tars.video_member import VideoMember

    *sources, dest = places_of(arguments, _DEFAULTS)
    if arguments.label_member is not None and not arguments.with_labels:
        raise UsageError("--label-member has no effect without --with-labels: add it")
    if arguments.keep_labels and (arguments.keep_recordings or not arguments.with_labels):
        raise UsageError("--keep-labels: needs --with-labels, and does not go with --keep-recordings")
    return BuildOptions(
        dest=dest,
        catalog=CatalogOptions(
            sources=tuple(sources),
            video_root=arguments.video_root,
            seed=arguments.seed,
            with_labels=arguments.with_labels,
            read_records=arguments.val_fraction is not None
            or arguments.keep_recordings
            or arguments.dedupe == "near",
            keep_recordings=arguments.keep_recordings,
            keep_labels=arguments.keep_labels,
            sets_only=arguments.command == "reshard",
            videos=None if arguments.video_member is None else VideoMember(arguments.video_member),
            labels=None if arguments.label_member is None else LabelMember.parse(arguments.label_member),
        ),
        plan=PlanOptions(
            shard_bytes=arguments.shard_bytes,
            split=arguments.split,
            split_column=arguments.split_column,
            val_fraction=arguments.val_fraction,
            limit=arguments.limit,
            seed=arguments.seed,
        ),
        profile=_profile(arguments),
        limits=ClipLimits(
            max_seconds=arguments.max_seconds,
            min_frames=arguments.min_frames,
            timeout=arguments.timeout,
            filters=ClipFilters(
                min_side=arguments.min_side,
                min_seconds=arguments.min_seconds,
                min_motion=arguments.min_motion,
                max_black=arguments.max_black,
            ),
        ),
        workers=workers_of(arguments),
        executor=arguments.executor,
        tasks=1 if arguments.num_tasks is None else arguments.num_tasks,
        task=arguments.task_index,
        dedupe_content=arguments.dedupe == "content",
        dedupe_near=arguments.dedupe == "near",
        cut=_cut_options(arguments),
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
        quiet=arguments.quiet,
        scratch=arguments.scratch,
    )


def _cut_options(arguments: argparse.Namespace) -> CutOptions:
    from .measuring.cuts import CutOptions

    if arguments.shot_threshold is not None and not arguments.shots:
        raise UsageError("--shot-threshold has no effect without --shots: give both")
    if (arguments.shots or arguments.chunk is not None) and (arguments.copy or arguments.profile == "copy"):
        raise UsageError("--chunk and --shots cut videos, which --copy can't: use a transcoding profile")
    if arguments.min_seconds is not None and arguments.min_seconds > arguments.max_seconds:
        raise UsageError(
            f"--min-seconds {arguments.min_seconds:g}: is more than --max-seconds {arguments.max_seconds:g}"
        )
    threshold = {} if arguments.shot_threshold is None else {"shot_threshold": arguments.shot_threshold}
    return CutOptions(
        chunk=arguments.chunk,
        shots=arguments.shots,
        max_seconds=arguments.max_seconds,
        is_inherited=getattr(arguments, "inherits_cutting", False),
        **threshold,
    )


def as_reshard(arguments: argparse.Namespace) -> None:
    """Fill in what ``reshard`` does unless told otherwise: clips unchanged, splits as they are."""
    encoding = (arguments.short_side, arguments.fps, arguments.gop, arguments.crf)
    if arguments.profile is None and not arguments.copy_if_conforming and set(encoding) == {None}:
        arguments.copy = True
    if arguments.split is None and arguments.val_fraction is None:
        arguments.split_column = True


def _profile(arguments: argparse.Namespace) -> Profile:
    if arguments.copy and arguments.profile not in (None, "copy"):
        raise UsageError(f"--copy and --profile {arguments.profile} exclude each other")
    profile = PROFILES["copy" if arguments.copy else arguments.profile or "fast"]
    changes = {
        name: getattr(arguments, name)
        for name in ("short_side", "fps", "gop", "crf")
        if getattr(arguments, name) is not None
    }
    if profile.copy and arguments.copy_if_conforming:
        raise UsageError("--copy-if-conforming has no effect with --copy: give one of them")
    if profile.copy and changes:
        raise UsageError(f"--{next(iter(changes)).replace('_', '-')} has no effect with --copy")
    return dataclasses.replace(profile, **changes, copy_if_conforming=arguments.copy_if_conforming)
