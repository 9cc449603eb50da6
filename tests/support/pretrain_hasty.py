"""launch/pretrain.py that gives up a write after two seconds, for tests of a place that can't be written to."""

from __future__ import annotations

import functools
import sys

if __name__ == "__main__":
    from pal_ds.cli.pretrain import main
    from pal_ds.storage import RetryPolicy
    from pal_ds.training import pretrain
    from pal_ds.training.logging import run_log

    hasty = RetryPolicy(budget_seconds=2.0, patient_access=True)
    run_log._UPLOAD = hasty
    pretrain.Saver = functools.partial(pretrain.Saver, retry=hasty, pause=0.5)
    sys.exit(main())
