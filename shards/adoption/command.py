"""``pal-shard adopt``: its arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pal_ds.command_line.parser import CommandParser

from ..shared_arguments import (
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
    from .options import AdoptOptions

DESCRIPTION = """\
Makes a shard set of tars that other tools wrote (video2dataset, webdataset's ShardWriter, tar itself): every clip is
probed and decoded once, and DEST gets a manifest and an index for each tar. The tars stay where and as they are;
training reads them there. Run it again after any interruption.
"""


#: What holds where neither an argument nor, for ``--append``, the set says otherwise.
_DEFAULTS = {"seed": 0, **LENGTHS}


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
    parser.add_argument("--seed", type=int, help="of the choice of val (default: 0)")
    add_length_arguments(parser)
    add_timeout_argument(parser)
    parser.add_argument(
        "--workers", type=int, default=None, help="clips that are decoded at a time (default: cores)"
    )
    add_task_arguments(parser)
    parser.add_argument("--scratch", metavar="DIR", help="for tars under way (default: TMPDIR)")
    parser.add_argument(
        "--append",
        action="store_true",
        help="add tars to the set at DEST, as a new generation of it; limits, members and splits are the set's "
        "unless given",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove the shard set that lies at DEST first (not the tars)"
    )
    add_output_arguments(parser)
    parser.set_rare(
        "--seed", "--max-seconds", "--min-frames", "--timeout", "--scratch", "--overwrite", "--quiet"
    )


def _inherit(arguments: argparse.Namespace) -> None:
    """Fill in from the set that is added to what was not given."""
    from pal_ds.formats.shardset import load_manifest

    recipe = load_manifest(arguments.places[-1]).recipe
    names = [*_DEFAULTS]
    if recipe.get("profile") == "adopted":
        names += ["video_member", "label_member"]
    if arguments.split is None and not arguments.split_by_folder and arguments.val_fraction is None:
        names += ["split", "val_fraction"]
        arguments.split_by_folder = bool(recipe.get("split_by_folder"))
    for name in names:
        if getattr(arguments, name) is None:
            setattr(arguments, name, recipe.get(name))


def adopt_options(arguments: argparse.Namespace) -> AdoptOptions:
    """Turn parsed arguments into options.

    Raises:
        UsageError: they contradict each other or are out of range.
    """
    from ..encoding.transcode import ClipLimits
    from ..foreign_tars.label_member import LabelMember
    from ..foreign_tars.video_member import VideoMember
    from .options import AdoptOptions

    if arguments.append and len(arguments.places) > 1:
        _inherit(arguments)
    *sources, dest = places_of(arguments, _DEFAULTS)
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
        workers=workers_of(arguments),
        tasks=1 if arguments.num_tasks is None else arguments.num_tasks,
        task=arguments.task_index,
        append=arguments.append,
        overwrite=arguments.overwrite,
        quiet=arguments.quiet,
        scratch=arguments.scratch,
    )
