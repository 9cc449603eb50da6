"""`python -m benchmarks.fidelity`: see :mod:`benchmarks.fidelity.cli`."""

import sys

from benchmarks.fidelity.cli import main

sys.exit(main())
