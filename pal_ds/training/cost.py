"""The former place of ``python -m pal_ds.planning.cost``."""

from __future__ import annotations

import sys

from pal_ds.planning.cost import main

if __name__ == "__main__":
    sys.exit(main())
