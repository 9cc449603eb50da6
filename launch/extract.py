"""Features of untrimmed videos from a frozen backbone; ``--help`` teaches it (DESIGN.md §3.6)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pal_ds.cli.extract import main

if __name__ == "__main__":
    sys.exit(main())
