"""Whether the tests that take minutes and prove little more run too: ``PAL_TEST_FULL=1``, before a release."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

FULL = bool(os.environ.get("PAL_TEST_FULL"))


def rest(cases: Iterable[T]) -> list[T]:
    """Return cases that are left out of usual runs."""
    return list(cases) if FULL else []
