"""Loads a checkpoint on any number of ranks, validates once, and prints the loss: ``CONFIG OVERRIDE…``."""

from __future__ import annotations

import json
import os
import sys

if __name__ == "__main__":
    import torch

    from pal_ds.config import load_config
    from pal_ds.distributed import ranks as ranks_module
    from pal_ds.formats import checkpoint
    from pal_ds.models import build_objective
    from pal_ds.training.device_feed import ValidationFeed
    from pal_ds.training.engine import TrainEngine
    from pal_ds.training.validation import validate

    run, config_file, *overrides = sys.argv[1:]
    config = load_config(config_file, overrides)
    ranks = ranks_module.start(120.0)
    torch.manual_seed(0)
    objective = build_objective(config.objective, config.model, config.queue)
    snapshot = checkpoint.load(run, int(os.environ["PAL_TEST_STEP"]))
    objective.load_state_dict(snapshot.model, strict=True)
    if os.environ.get("PAL_TEST_OTHER_QUEUE"):
        objective.queue.keys.copy_(
            torch.nn.functional.normalize(torch.randn_like(objective.queue.keys), dim=1)
        )
        objective.queue.filled.fill_(1)
    engine = TrainEngine(objective, config, ranks)
    found = validate(
        engine, ValidationFeed(config, ranks), ranks, lambda: None, most_negatives=config.queue.size
    )
    if ranks.is_first:
        print("RESULT", json.dumps({"loss": found.loss, "samples": found.samples, **found.metrics}))
    ranks_module.stop()
