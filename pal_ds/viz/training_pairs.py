"""The synthetic pairs that a run trains on at a step, drawn from its shard set: the order is a pure function."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from pal_ds.config import Config
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.loader import GroupLoader
from pal_ds.data.synthesis.render import render
from pal_ds.viz.filmstrip import Strip, film_strips
from pal_ds.viz.report_page import Picture

_VIEWS = ("query", "key")


def training_pairs(config: Config, *, step: int = 0, count: int = 4) -> Picture | None:
    """Draw the first pairs of the batch that a run trains on after ``step`` optimizer steps.

    Args:
        config: the run; its shard set is read, decoded in this process.
        step: optimizer steps done before.
        count: pairs at most; a group has no more than its videos.

    Returns:
        The picture; None where the objective looks at one view.

    Raises:
        ConfigError: the config does not fit the set.
        ShardSetError: there is no shard set.
        StorageError: the set can't be read.
    """
    data = dataclasses.replace(config.data, workers=0)
    loader = GroupLoader(
        data.sources,
        data=data,
        synthesis=config.synthesis,
        augment=config.augment,
        seed=config.run.seed,
        rank=0,
        world_size=1,
    )
    loader.load_state_dict({"step": step})
    try:
        micro = next(iter(loader)).clone()
    finally:
        loader.close()
    views = _pixels(micro, config)
    if views is None:
        return None
    group = micro.groups[0]
    pairs = [
        (_strip(views, group, video, 0), _strip(views, group, video, 1))
        for video in range(min(count, len(group)))
    ]
    return Picture(
        data=film_strips(pairs, title="Synthetic training pairs, as the network sees them", kind="webp"),
        alt=f"{len(pairs)} pairs of film strips of step {step + 1}, the pasted action marked in each",
        see=f"Step {step + 1}. Each pair holds one action, cut from a real video and pasted into two other videos, "
        "at another place, length and speed; colours and crops differ on purpose. The frame marks the pasted region.",
        good="the marked clips of a pair show the same action; everything around them differs",
        bad="a marked region that shows only background, or two equal strips",
    )


def _pixels(micro: MicroBatch, config: Config) -> np.ndarray | None:
    """Return the rendered views as uint8 [2, B, J, T, H, W, 3], normalisation undone; None without two views."""
    rendered = render(micro, config.synthesis, config.augment)
    query, key = rendered["query_bjcthw"], rendered["key_bjcthw"]
    if query is None or key is None:
        return None
    both = torch.stack([query, key]).movedim(3, -1).float()
    std, mean = torch.tensor(config.augment.std), torch.tensor(config.augment.mean)
    found: np.ndarray = ((both * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return found


def _strip(views: np.ndarray, group: Group, video: int, view: int) -> Strip:
    start, length = (int(value) for value in group.region[video, view])
    info = group.info[video]
    background = int(group.pairs[video, view])
    lent = group.info[background] if background >= 0 else None
    return Strip(
        frames_jthwc=views[view, video],
        region=(start, length),
        beta=float(group.beta[video, view, start]),
        stride=int(info["stride"][view]),
        background_stride=int(lent["background_stride"]) if lent else None,
        name=_VIEWS[view],
        action=_short(info["source"]),
        background=_short(lent["source"]) if lent else "",
    )


def _short(source: str) -> str:
    return source.rsplit("/", 1)[-1][:40]
