"""launch/pretrain.py with queries paired with another sample's key: there is nothing to learn."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main
    from pal_ds.training.device_feed import Feed

    honest = Feed.views

    def shuffled(self, micro):
        batch = honest(self, micro)
        batch.key_bjcthw = batch.key_bjcthw.roll(1, dims=0)
        batch.key_region_b2 = batch.key_region_b2.roll(1, dims=0)
        return batch

    Feed.views = shuffled
    sys.exit(main())
