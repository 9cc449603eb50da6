"""Entry point of ``python -m benchmarks.mocap``."""

import sys

from benchmarks.mocap.cli import main

if __name__ == "__main__":
    sys.exit(main())
