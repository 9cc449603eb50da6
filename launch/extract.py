"""``launch/extract.py``: the command ``pal-extract`` by its path; the package must be installed."""

from __future__ import annotations

import sys

from pal_ds.cli.extract import main

if __name__ == "__main__":
    sys.exit(main())
