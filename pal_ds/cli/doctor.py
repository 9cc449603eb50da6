"""The command ``pal-doctor``: is this machine, with these places, fit for a run?"""

from __future__ import annotations

import sys

from pal_ds.doctor.checkup import build_parser, doctor

__all__ = ["build_parser", "main"]


def main(words: list[str] | None = None) -> int:
    """Run the command; see ``pal-doctor --help``."""
    return doctor(sys.argv[1:] if words is None else words)


if __name__ == "__main__":
    sys.exit(main())
