"""Makes shards on a Ray cluster; needs the extra ``ray``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset

from ..catalog.rows import Row
from ..errors import BuildError, UsageError
from ..progress import Progress
from .journal import Journal, recipe_differences
from .local_executor import ShardWork, make_shard
from .shard_plan import PlannedShard

_CREDENTIALS = ("AWS_", "GOOGLE_", "AZURE_", "FSSPEC_", "HF_", "GCSFS_")


def run_ray(
    work: ShardWork,
    shards: Sequence[PlannedShard],
    rows_of: Callable[[PlannedShard], list[Row]],
    encoder: dict[str, str],
    *,
    progress: Progress,
    address: str | None = None,
) -> None:
    """Make every shard as one Ray task of one core; DEST and the sources must be reachable from every node.

    Args:
        work: what every shard needs.
        shards: the shards to make.
        rows_of: the clips of a shard; called when its task is sent, so that few are in memory.
        encoder: the recipe's ffmpeg build; a node that has another refuses.
        progress: told of every clip.
        address: of a running cluster; None for ``RAY_ADDRESS``, else a cluster on this machine.

    Raises:
        UsageError: Ray is not installed.
        BuildError: a shard fails.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'ray[default]'") from error
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(
            address=address or os.environ.get("RAY_ADDRESS"), log_to_driver=False, logging_level="warning"
        )
    environment = {name: value for name, value in os.environ.items() if name.startswith(_CREDENTIALS)}
    task = ray.remote(num_cpus=1, max_retries=2)(_make_on_node)
    limit = max(2, int(ray.cluster_resources().get("CPU", 1)) * 2)
    waiting = list(shards)
    running: dict[Any, PlannedShard] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                shard = waiting.pop(0)
                running[task.remote(work, shard, rows_of(shard), encoder, environment)] = shard
            done, _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(done[0])
            _collect(ray, done[0], shard, work, progress)
    finally:
        for reference in running:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        if started_here:
            ray.shutdown()


def _collect(ray: Any, reference: Any, shard: PlannedShard, work: ShardWork, progress: Progress) -> None:
    name = shardset.shard_name(shard.split, shard.number)
    try:
        problem = ray.get(reference)
    except Exception as error:
        raise BuildError(f"{name}: its Ray task failed: {str(error).splitlines()[0]}") from error
    if problem:
        raise BuildError(f"{name}: {problem}")
    part = Journal(work.dest).read_part(name)
    clips = part.entry.clips if part.entry is not None else 0
    for _ in range(clips):
        progress.clip(part.entry.bytes // clips if part.entry is not None else 0)
    for reject in part.rejects:
        progress.reject(reject.stage)


def _make_on_node(
    work: ShardWork,
    shard: PlannedShard,
    rows: Sequence[Row],
    encoder: dict[str, str],
    environment: dict[str, str],
) -> str | None:
    """Make one shard on whichever node this runs; returns what is wrong, or None."""
    from pal_ds.storage.scratch import scratch_folder

    from ..encoding.ffmpeg_info import encoder_identity

    for name, value in environment.items():
        os.environ.setdefault(name, value)
    storage.read_environment()
    differences = recipe_differences(encoder, encoder_identity())
    if differences:
        return f"node {os.uname().nodename} has another ffmpeg build ({'; '.join(differences[:3])})"
    with scratch_folder() as scratch:
        make_shard(work, shard, rows, scratch)
    return None
