"""``python -m benchmarks.evidence``: see :mod:`benchmarks.evidence.cli`."""

import sys

from benchmarks.evidence.cli import main

if __name__ == "__main__":
    sys.exit(main())
