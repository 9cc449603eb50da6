"""``pal-shard adopt``: its arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pal_ds.command_line.parser import CommandParser

from ..errors import UsageError
from ..options import add_member_arguments, default_workers

if TYPE_CHECKING:
    from .options import AdoptOptions

DESCRIPTION = """\
Makes a shard set of tars that other tools wrote (video2dataset, webdataset's ShardWriter, tar itself): every clip is
probed and decoded once, and DEST gets a manifest and an index for each tar. The tars stay where and as they are;
training reads them there. Run it again after any interruption.
"""


def add_arguments(parser: CommandParser) -> None:
    """Declare what ``adopt`` understands."""
    parser.usage = "%(prog)s [options] SOURCE… DEST"
    parser.add_argument(
        "places",
        nargs="+",
        metavar="SOURCE… DEST",
        help="folders, URL prefixes or names of tars, then the new set",
    )
    add_member_arguments(parser)
    parser.add_argument("--split", metavar="NAME", help="name of the one split (default: train)")
    parser.add_argument(
        "--split-by-folder", action="store_true", help="the folder a tar lies in is its split"
    )
    parser.add_argument(
        "--val-fraction", type=float, metavar="X", help="share of the tars for 'val', whole tars"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of val (default: 0)")
    parser.add_argument(
        "--max-seconds", type=float, default=600.0, metavar="S", help="reject longer clips (default: 600)"
    )
    parser.add_argument(
        "--min-frames", type=int, default=8, metavar="N", help="reject clips of fewer frames (default: 8)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds one tool may take for a clip (default: 600)",
    )
    parser.add_argument(
        "--workers", type=int, default=None, help="clips that are decoded at a time (default: cores)"
    )
    parser.add_argument(
        "--num-tasks", type=int, default=None, metavar="N", help="this run is one of N (then: finish)"
    )
    parser.add_argument("--task-index", type=int, default=None, metavar="I", help="which of them, from 0")
    parser.add_argument("--scratch", metavar="DIR", help="for tars under way (default: TMPDIR)")
    parser.add_argument(
        "--append", action="store_true", help="add tars to the set at DEST, as a new generation of it"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove the shard set that lies at DEST first (not the tars)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_rare(
        "--seed", "--max-seconds", "--min-frames", "--timeout", "--scratch", "--overwrite", "--quiet"
    )


def adopt_options(arguments: argparse.Namespace) -> AdoptOptions:
    """Turn parsed arguments into options.

    Raises:
        UsageError: they contradict each other or are out of range.
    """
    from ..encoding.transcode import ClipLimits
    from ..foreign_tars.label_member import LabelMember
    from ..foreign_tars.video_member import VideoMember
    from .options import AdoptOptions

    if len(arguments.places) < 2:
        raise UsageError("give at least one SOURCE and then DEST")
    if (arguments.num_tasks is None) != (arguments.task_index is None):
        raise UsageError("--num-tasks and --task-index go together")
    for name in ("max_seconds", "timeout"):
        if not getattr(arguments, name) > 0:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give a number above 0")
    if arguments.min_frames < 1:
        raise UsageError(f"--min-frames {arguments.min_frames}: give at least 1")
    *sources, dest = arguments.places
    labels = arguments.label_member
    return AdoptOptions(
        sources=sources,
        dest=dest,
        videos=VideoMember(arguments.video_member),
        labels=None if labels is None else LabelMember.parse(labels),
        split=arguments.split,
        split_by_folder=arguments.split_by_folder,
        val_fraction=arguments.val_fraction,
        seed=arguments.seed,
        limits=ClipLimits(
            max_seconds=arguments.max_seconds, min_frames=arguments.min_frames, timeout=arguments.timeout
        ),
        workers=default_workers() if arguments.workers is None else arguments.workers,
        tasks=1 if arguments.num_tasks is None else arguments.num_tasks,
        task=arguments.task_index,
        append=arguments.append,
        overwrite=arguments.overwrite,
        quiet=arguments.quiet,
        scratch=arguments.scratch,
    )
