"""launch/pretrain.py with one rank that stops making progress at a step, for tests of the watchdog."""

from __future__ import annotations

import os
import signal
import sys
import time

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main
    from pal_ds.training.device_feed import Feed

    rank, step, how = os.environ["PAL_TEST_HANG"].split(",")
    honest = Feed.views

    def stuck(self, micro):
        if micro.step == int(step) and os.environ["RANK"] == rank:
            if how == "frozen":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1e6)
        return honest(self, micro)

    Feed.views = stuck
    sys.exit(main())
