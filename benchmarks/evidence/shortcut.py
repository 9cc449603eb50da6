"""Which augmentation keeps looks from solving the pretext? ``python -m benchmarks.evidence.shortcut --shards DIR``.

For each setting the partners of a set's held-out clips are looked for by thumbnails of their regions
(:class:`pal_ds.training.thumbnail_probe.ThumbnailProbe`): by mean colours, and by mean differences of frames, on an
8 x 8 grid. No network has a part in it. Writes nothing; prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks.evidence.stage import ROOT
from benchmarks.evidence.variants import CONFIGS
from pal_ds.config import load_config
from pal_ds.distributed.ranks import Ranks
from pal_ds.training.device_feed import ValidationFeed
from pal_ds.training.thumbnail_probe import ThumbnailProbe

_MEDIUM = (
    *("augment.crop_scale_min=0.4", "augment.brightness=0.4", "augment.contrast=0.4"),
    *("augment.saturation=0.4", "augment.hue=0.2", "augment.grey_p=0.3", "augment.jitter_p=0.8"),
)
_COLOUR = (
    *("augment.brightness=0.8", "augment.contrast=0.8", "augment.saturation=0.8", "augment.hue=0.5"),
    "augment.jitter_p=1",
)
#: Augmentations by name, as settings over the benchmark's own.
SETTINGS: dict[str, tuple[str, ...]] = {
    "none": (
        *("augment.crop=center", "augment.brightness=0", "augment.contrast=0", "augment.saturation=0"),
        *("augment.hue=0", "augment.grey_p=0", "augment.blur_p=0", "augment.flip_p=0"),
    ),
    "mild": (
        *("augment.crop_scale_min=0.6", "augment.brightness=0.2", "augment.contrast=0.2"),
        *("augment.saturation=0.2", "augment.hue=0.05", "augment.grey_p=0", "augment.blur_p=0.1"),
    ),
    "medium": _MEDIUM,
    "medium, crops from 0.2": (*_MEDIUM, "augment.crop_scale_min=0.2"),
    "medium, always grey": (*_MEDIUM, "augment.grey_p=1"),
    "medium, strong colour": (*_MEDIUM, *_COLOUR),
    "all three": (*_MEDIUM, *_COLOUR, "augment.crop_scale_min=0.2", "augment.grey_p=1"),
    "all but grey, brightness and contrast 0.8": (*_COLOUR, "augment.crop_scale_min=0.2"),
    "the benchmark's": (),
}
ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.shortcut", description=__doc__)
    parser.add_argument("--shards", required=True, help="shard set with a val split, of the development set")
    parser.add_argument("--variants", default="moco,pal", help="configs whose views are made")
    parser.add_argument("--side", type=int, default=56, help="of the frames, in pixels")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    print("| views of | augmentation | colours find | differences find | chance |\n|---|---|---|---|---|")
    for variant in arguments.variants.split(","):
        for name, settings in SETTINGS.items():
            found = partners(arguments.shards, variant, settings, arguments.side)
            shares = (found["thumbnail_top1"], found["motion_top1"], found["thumbnail_chance"])
            print(f"| {variant} | {name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
            sys.stdout.flush()
    return 0


def partners(shards: str, variant: str, settings: tuple[str, ...], side: int) -> dict[str, float]:
    """Return the figures of the probe for one config and augmentation."""
    config = load_config(
        str((CONFIGS / f"{variant}.yaml").relative_to(ROOT)),
        [
            f"data.shards={shards}",
            "run.dir=unused",
            "data.global_batch=16",
            f"synthesis.size={side}",
            *settings,
        ],
    )
    probe = ThumbnailProbe(ALONE)
    for batch in ValidationFeed(config, ALONE):
        probe.add(batch)
    return probe.result()


if __name__ == "__main__":
    sys.exit(main())
