"""Groups of made-up pictures with real draws, packed as workers pack them: for tests and figures of rendering."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.synthesis.group_builder import colour_matrices
from pal_ds.data.synthesis.sampling import draw_clip, draw_pairs
from pal_ds.data.synthesis.slot_layout import SlotWriter, slot_bytes


class Operators(TorchDispatchMode):
    """Counts what is dispatched; ``kernels`` leaves out what only looks at memory or sets some aside."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        looks = any(back.alias_info and not back.alias_info.is_write for back in func._schema.returns)
        self.kernels += not looks and "empty" not in str(func) and "_unsafe_view" not in str(func)
        return func(*args, **(kwargs or {}))


def made_batch(
    groups: int,
    clips: int,
    synthesis: SynthesisConfig,
    augment: AugmentConfig,
    *,
    height: int = 128,
    width: int = 170,
) -> MicroBatch:
    """Return a micro-batch on the host; every frame of a video is its picture with noise of its own."""
    made = tuple(_group(number, clips, synthesis, augment, height, width) for number in range(groups))
    return MicroBatch(groups=made, epoch=0, step=0, micro_step=0, replaced=[])


def as_before(micro: MicroBatch) -> Any:
    """Return a micro-batch as the old form wants it: colour numbers beside the pixels."""
    moved = [
        dataclasses.replace(
            group, colour=group.colour.to(micro.device), contrast=group.contrast.to(micro.device)
        )
        for group in micro.groups
    ]
    return dataclasses.replace(micro, groups=tuple(moved))


def _group(
    seed: int, clips: int, synthesis: SynthesisConfig, augment: AugmentConfig, height: int, width: int
) -> Group:
    rng = np.random.default_rng(seed)
    keys = [f"{seed}-{number}" for number in range(clips)]
    writer = SlotWriter(
        torch.zeros(slot_bytes(synthesis, clips, "device"), dtype=torch.uint8), synthesis, "device"
    )
    size = {"frames": 300, "height": height, "width": width}
    draws = [draw_clip(seed, 0, key, **size, synthesis=synthesis, augment=augment) for key in keys]
    for drawn in draws:
        count = sum(len(region.frames) for region in drawn.regions) + len(drawn.background)
        coarse = rng.integers(0, 256, (1, -(-height // 4), -(-width // 4), 3))
        picture = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
        noise = rng.integers(-30, 30, (count, height, width, 3), dtype=np.int16)
        writer.write(drawn, torch.from_numpy(np.clip(picture + noise, 0, 255).astype(np.uint8)))
    looks = [look for drawn in draws for look in drawn.region_looks]
    if synthesis.paste != "none":
        looks += [look for drawn in draws for look in drawn.background_looks]
    contrast = np.array([(1 - look.contrast) * look.brightness for look in looks], dtype=np.float32)
    return Group(
        pixels=writer.pixels(),
        sources=writer.sources(),
        flip=np.array([look.flip for look in looks]),
        blur=np.array([look.blur for look in looks], dtype=np.float32),
        colour=torch.from_numpy(colour_matrices(looks).astype(np.float32)),
        contrast=torch.from_numpy(contrast),
        region=torch.tensor([[(part.start, part.length) for part in drawn.regions] for drawn in draws]),
        beta=torch.tensor([[part.beta for part in drawn.regions] for drawn in draws], dtype=torch.float32),
        pairs=torch.from_numpy(draw_pairs(seed, 0, keys, synthesis.paste, synthesis.views)),
        labels=torch.full((clips,), -1),
        digest=bytes(8),
        keys=keys,
        epoch=0,
        step=0,
        number=seed,
        info=[],
    )
