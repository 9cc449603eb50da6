"""`python -m benchmarks.fidelity`: see :mod:`benchmarks.fidelity.cli`."""

import sys

from benchmarks.fidelity.cli import main

if __name__ == "__main__":
    sys.exit(main())
