"""launch/pretrain.py with one rank's views turned into NaN at chosen steps, for tests of the guard."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main
    from pal_ds.training.device_feed import Feed

    steps = {int(step) for step in os.environ["PAL_TEST_NAN_STEPS"].split(",")}
    honest = Feed.views

    def spoiled(self, micro):
        batch = honest(self, micro)
        if micro.step in steps and os.environ["RANK"] == os.environ["PAL_TEST_NAN_RANK"]:
            batch.query_bjcthw.fill_(float("nan"))
        return batch

    Feed.views = spoiled
    sys.exit(main())
