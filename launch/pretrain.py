#!/usr/bin/env python
"""``deepspeed launch/pretrain.py``: the command ``pal-pretrain`` by its path; the package must be installed."""

from __future__ import annotations

import sys

from pal_ds.cli.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
