"""How tests build one group from clips in memory, without a shard set."""

import numpy as np
import torch

from pal_ds.data.order.epoch_order import ClipPosition
from pal_ds.data.order.group_schedule import GroupTask, WindowPart
from pal_ds.data.synthesis.group_builder import GroupBuilder
from pal_ds.data.synthesis.slot_layout import slot_bytes


def built(clips, synthesis, augment, *, seed=3):
    builder = GroupBuilder(
        schedule=None,
        fetch=None,
        synthesis=synthesis,
        augment=augment,
        seed=seed,
        resize="worker",
        labels={},
        shard_label=lambda _: "train-000000.tar",
    )
    positions = tuple(ClipPosition(0, number) for number in range(len(clips)))
    part = WindowPart((0, 0, 0), len(clips), np.array(positions))
    task = GroupTask(number=0, epoch=0, step=0, group=0, clips=positions, parts=(part,))
    buffer = torch.zeros(slot_bytes(synthesis, len(clips), "worker"), dtype=torch.uint8)
    return builder.build(task, clips, buffer).group
