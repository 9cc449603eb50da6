"""launch/pretrain.py that writes down the state its ranks hold before the first step, for tests of resumes.

``PAL_TEST_REREAD`` is a folder; the state goes there as a checkpoint of the step that was loaded. It is taken as
every checkpoint is: gathered from all ranks out of the engine and the optimizer, after all was loaded into them.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main
    from pal_ds.formats import checkpoint
    from pal_ds.training.trainer import Trainer

    honest = Trainer.run

    def rereading(self):
        snapshot = self._parts.keeper.snapshot(self.position)
        if self._ranks.is_first:
            checkpoint.save(os.environ["PAL_TEST_REREAD"], snapshot)
        return honest(self)

    Trainer.run = rereading
    sys.exit(main())
