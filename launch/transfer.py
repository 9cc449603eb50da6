"""``python launch/transfer.py``: the command ``pal-transfer`` by its path; the package must be installed."""

from __future__ import annotations

import sys

from pal_ds.cli.transfer import main

if __name__ == "__main__":
    sys.exit(main())
