"""launch/pretrain.py that notes every file it or its workers open for writing, for the no-local-copy test."""

from __future__ import annotations

import os
import sys

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


def install(log: int) -> None:
    """Write the path of every file opened for writing, in this process and its forks, to a descriptor."""

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & _WRITING:
            os.write(log, os.fsencode(arguments[0]) + b"\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    install(os.open(os.environ["PAL_TEST_AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    from pal_ds.cli.pretrain import main

    sys.exit(main())
