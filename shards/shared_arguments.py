"""Arguments that several commands of ``pal-shard`` have in common."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .errors import UsageError

#: What holds of clips where neither an argument nor, where a set is added to, the set says otherwise.
LENGTHS = {"max_seconds": 600.0, "min_frames": 8}


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_of(arguments: argparse.Namespace) -> int:
    """Return how many clips or shards are worked on at a time.

    Raises:
        UsageError: none.
    """
    workers = default_workers() if arguments.workers is None else int(arguments.workers)
    if workers < 1:
        raise UsageError(f"--workers {workers}: give at least 1")
    return workers


def places_of(arguments: argparse.Namespace, defaults: dict[str, Any]) -> list[str]:
    """Return the sources and then the destination, after a look at what all of these commands understand.

    Args:
        arguments: parsed; those that are None get their default.
        defaults: by the names of arguments.

    Raises:
        UsageError: too few places, half of a task, or a limit out of its range.
    """
    if len(arguments.places) < 2:
        raise UsageError("give at least one SOURCE and then DEST")
    if (arguments.num_tasks is None) != (arguments.task_index is None):
        raise UsageError("--num-tasks and --task-index go together")
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name in ("max_seconds", "timeout"):
        if not getattr(arguments, name) > 0:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give a number above 0")
    if arguments.min_frames < 1:
        raise UsageError(f"--min-frames {arguments.min_frames}: give at least 1")
    return list(arguments.places)


def add_length_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare how long a clip may be; :data:`LENGTHS` where it is not given."""
    parser.add_argument("--max-seconds", type=float, metavar="S", help="reject longer clips (default: 600)")
    parser.add_argument(
        "--min-frames", type=int, metavar="N", help="reject clips of fewer frames (default: 8)"
    )


def add_timeout_argument(parser: argparse._ActionsContainer) -> None:
    """Declare how long a tool may take."""
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds one tool may take for a clip (default: 600)",
    )


def add_task_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare how the work is divided among machines."""
    parser.add_argument(
        "--num-tasks", type=int, default=None, metavar="N", help="this run is one of N (then: finish)"
    )
    parser.add_argument("--task-index", type=int, default=None, metavar="I", help="which of them, from 0")


def add_output_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare what is said."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def add_member_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare how the members of foreign tars are read."""
    parser.add_argument(
        "--video-member",
        metavar="PATTERN",
        help="which member is the video: an ending, as mp4 or left.mp4, or a whole name with {key} in it, as "
        "'{key}/video.mp4'; * stands for anything (default: any ending of a video file)",
    )
    parser.add_argument(
        "--label-member",
        metavar="ENDING[:FIELD]",
        help="which member tells the class, as cls, or json:label for a field of it (default: no labels)",
    )
