"""Errors of other libraries in one line."""

from __future__ import annotations

import pytest

from pal_ds.storage.errors import first_line


@pytest.mark.parametrize(
    ("message", "most", "line"),
    [
        ("no such bucket", None, "OSError: no such bucket"),
        ("\n  \n libfoo.so: not found \n  at load()", None, "OSError: libfoo.so: not found"),
        ("0123456789", 4, "OSError: 0123"),
        (" \n", None, "OSError"),
    ],
)
def test_the_first_line_that_says_something_follows_the_type(message: str, most: int | None, line: str):
    assert first_line(OSError(message), most=most) == line
