#!/usr/bin/env python
"""``deepspeed launch/pretrain.py``: :mod:`pal_ds.cli.pretrain`, out of a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

# Started by its path, Python searches this folder and not the checkout around it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pal_ds.cli.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
