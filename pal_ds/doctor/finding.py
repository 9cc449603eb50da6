"""What a check of the doctor returns: fine, a warning or a failure, with the fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        state: ``OK``, ``WARN`` (a run works, but worse than it could) or ``FAIL`` (a run would end badly).
        name: what was looked at, one or two words.
        text: what was found, one line.
        fix: what to do about it; empty where all is well.
    """

    state: str
    name: str
    text: str
    fix: str = ""


def ok(name: str, text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(state=OK, name=name, text=text)


def warn(name: str, text: str, fix: str) -> Finding:
    """Return a finding that a run survives."""
    return Finding(state=WARN, name=name, text=text, fix=fix)


def fail(name: str, text: str, fix: str) -> Finding:
    """Return a finding that a run does not survive."""
    return Finding(state=FAIL, name=name, text=text, fix=fix)


Check = Callable[[], Sequence[Finding]]
