"""launch/pretrain.py with a rank that runs out of GPU memory in its third step: the error is made up."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    import torch

    from pal_ds.cli.pretrain import main
    from pal_ds.training.device_feed import Feed

    honest = Feed.views

    def too_much(self, micro):
        if micro.step == 2 and os.environ["RANK"] == os.environ["PAL_TEST_RANK"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.06 GiB. GPU 0 has ...")
        return honest(self, micro)

    Feed.views = too_much
    sys.exit(main())
