"""Film strips of synthetic pairs as a run would see them: places, lengths, speeds, blend shares and backgrounds.

    python -m benchmarks.streaming.film_strips SHARDS --pairs 8 --out pairs.png

SHARDS is any shard set with a train split; the pairs are the first group of epoch 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pal_ds.config import load_config
from pal_ds.viz.training_pairs import training_pairs


def main() -> None:
    """Draw the pairs of one group."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", help="URL or path of a shard set")
    parser.add_argument("--pairs", type=int, default=8, help="pairs to draw, all from one group")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument(
        "--config", default="configs/pretrain/pal_i3d_k400.yaml", help="synthesis of this config"
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="settings over the file's")
    options = parser.parse_intermixed_args()
    group = max(8, options.pairs)
    fixed = [f"data.shards={options.shards}", "run.dir=unused", "data.workers=0"]
    fixed += [f"data.group_size={group}", f"data.global_batch={group}"]
    config = load_config(options.config, [*fixed, *options.settings])
    picture = training_pairs(config, count=options.pairs)
    if picture is None:
        parser.error(f"--config {options.config}: its objective looks at one view, so there are no pairs")
    options.out.write_bytes(picture.data)


if __name__ == "__main__":
    main()
