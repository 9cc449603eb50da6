"""What a configured run asks of the object store and of its workers' memory, from the manifest's figures alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pal_ds.config import Config
from pal_ds.data.clip_stream import fits_whole_windows
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.group_schedule import order_of
from pal_ds.data.order.slices import IntArray
from pal_ds.data.synthesis.slot_layout import most_in_use, slot_bytes, slot_count

#: Windows whose requests are counted to know the mean.
_SAMPLED_WINDOWS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamingPlan:
    """How one worker reads.

    Attributes:
        lanes: lanes of the worker with the most of them; each has a window open.
        whole_windows: windows are read whole; otherwise group by group.
        unit_bytes: bytes that are read together.
        unit_groups: groups that come from them.
        requests_per_unit: range reads they take, on average.
        window_bytes: bytes of a window.
        buffer_bytes: encoded video a worker holds at most.
        slot_bytes: shared memory of a worker's finished groups, as reserved.
    """

    lanes: int
    whole_windows: bool
    unit_bytes: int
    unit_groups: int
    requests_per_unit: float
    window_bytes: int
    buffer_bytes: int
    slot_bytes: int

    @property
    def requests_per_group(self) -> float:
        """Range reads for one group, on average."""
        return self.requests_per_unit / self.unit_groups


def plan_streaming(config: Config, epoch: EpochPlan, world_size: int) -> StreamingPlan:
    """Work out how a worker reads.

    Args:
        config: the run.
        epoch: geometry of its training split.
        world_size: ranks; must divide the groups of a micro-step.
    """
    data = config.data
    lanes_per_rank = epoch.lanes // world_size
    lanes = -(-lanes_per_rank // max(1, data.processes))
    budget = data.worker_memory_mb * 10**6
    open_windows = lanes * epoch.windows_per_lane
    whole = fits_whole_windows(
        open_windows=open_windows, window_bytes=epoch.window_bytes, budget_bytes=budget
    )
    group_bytes = epoch.group_size * epoch.clip_bytes
    unit_bytes = epoch.window_bytes if whole else group_bytes
    unit_groups = max(1, round(unit_bytes / group_bytes))
    micro_groups = epoch.groups_per_step // (data.accumulation * world_size)
    slots = slot_count(data.prefetch, most_in_use(micro_groups, data.processes)) if data.processes else 1
    return StreamingPlan(
        lanes=lanes,
        whole_windows=whole,
        unit_bytes=unit_bytes,
        unit_groups=unit_groups,
        requests_per_unit=_mean_requests(
            epoch, config.run.seed, whole_windows=whole, unit_groups=unit_groups
        ),
        window_bytes=epoch.window_bytes,
        buffer_bytes=max(budget, unit_bytes),
        slot_bytes=slots * slot_bytes(config.synthesis, epoch.group_size, data.resize),
    )


def describe_streaming(config: Config, epoch: EpochPlan, world_size: int) -> dict[str, Any]:
    """Return the plan's figures by name, as the dry run prints them."""
    plan = plan_streaming(config, epoch, world_size)
    requests = plan.requests_per_group * epoch.groups_per_step
    least = len(epoch.shard_names)
    most = least * world_size * max(1, config.data.processes)
    return {
        "decoding processes a rank": config.data.processes,
        "lanes of a worker": plan.lanes,
        "open windows of a worker": f"{plan.lanes * epoch.windows_per_lane} of "
        f"{plan.window_bytes / 1e6:.1f} MB, read "
        + ("whole" if plan.whole_windows else "group by group: they exceed data.worker_memory_mb"),
        "encoded video a worker holds (MB, at most)": round(plan.buffer_bytes / 1e6, 1),
        "shared memory of a worker (MB, reserved)": round(plan.slot_bytes / 1e6, 1),
        "range reads per step, expected": round(requests, 1),
        "range reads per epoch, expected": round(requests * epoch.steps_per_epoch),
        "index reads per epoch, expected": f"{least}" if least == most else f"{least} to {most}",
    }


def _mean_requests(epoch: EpochPlan, seed: int, *, whole_windows: bool, unit_groups: int) -> float:
    """Count the ranges of some windows (or of their first groups): neighbours in a shard are one range."""
    order = order_of(epoch, seed, 0)
    counts = []
    for lane in np.linspace(0, epoch.lanes - 1, min(_SAMPLED_WINDOWS, epoch.lanes)).astype(int):
        parts = order.parts(int(lane))
        windows = [order.rows(part) for part in parts]
        if not whole_windows:
            firsts = [
                rows[part.offset : part.offset + part.size] for part, rows in zip(parts, windows, strict=True)
            ]
            counts.append(float(_ranges(np.concatenate(firsts))))
        elif epoch.windows_per_lane == 1:
            counts.append(float(_ranges(windows[0])))
        else:
            # A group bears the share of each window's requests that it has of the window's clips.
            shares = [
                _ranges(rows) * part.size / len(rows) for part, rows in zip(parts, windows, strict=True)
            ]
            counts.append(sum(shares) * unit_groups)
    return float(np.mean(counts))


def _ranges(rows: IntArray) -> int:
    ordered = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    step = np.diff(ordered, axis=0)
    return 1 + int(((step[:, 0] != 0) | (step[:, 1] != 1)).sum())
