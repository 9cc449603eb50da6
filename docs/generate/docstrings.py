"""Docstrings are written to be read in the code; this makes Markdown of what it would take for something else."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([^`]+)`")
#: Code, or a shape right after a bracket: Markdown allows a blank between the parts of a reference.
_REFERENCE = re.compile(r"(``.+?``|`[^`]+`)|\](\s?)\[", re.DOTALL)


def as_markdown(text: str) -> str:
    """Return a docstring with its roles as code, and shapes (``[B, T][N]``) not as links."""
    return _REFERENCE.sub(lambda found: found[1] or rf"]{found[2]}\[", _ROLE.sub(r"`\1`", text))


class PlainDocstrings(griffe.Extension):
    """Passes every docstring through :func:`as_markdown`."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
