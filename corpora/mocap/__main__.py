"""Entry point of ``python -m corpora.mocap``."""

import sys

from corpora.mocap.cli import main

if __name__ == "__main__":
    sys.exit(main())
