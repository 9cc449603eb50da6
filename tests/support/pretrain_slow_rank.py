"""launch/pretrain.py with one rank that takes its time in every step, for tests of stragglers."""

from __future__ import annotations

import os
import sys
import time

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main
    from pal_ds.training.device_feed import Feed

    rank, seconds = os.environ["PAL_TEST_SLOW"].split(",")
    honest = Feed.views

    def slow(self, micro):
        if os.environ["RANK"] == rank:
            time.sleep(float(seconds))
        return honest(self, micro)

    Feed.views = slow
    sys.exit(main())
