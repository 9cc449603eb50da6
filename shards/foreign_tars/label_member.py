"""Which member of a sample tells a clip's class (``--label-member``)."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from typing import IO

from ..errors import UsageError
from .tar_listing import TarSample

#: Members above this size are no labels (bytes).
_MOST = 1 << 20


@dataclasses.dataclass(frozen=True)
class LabelMember:
    """Where a label is found.

    Attributes:
        ending: of the member, as ``cls`` or ``json``; ``*`` stands for anything.
        field: of the object in it, where it is JSON; None where the whole text is the label.
    """

    ending: str
    field: str | None = None

    @classmethod
    def parse(cls, text: str) -> LabelMember:
        """Return what ``cls``, ``txt`` or ``json:label`` stand for.

        Raises:
            UsageError: it is empty.
        """
        ending, colon, field = text.partition(":")
        if not ending or (colon and not field):
            raise UsageError(
                f"--label-member {text!r}: give an ending, as cls, or one with a field, as json:label"
            )
        return cls(ending.lstrip("."), field or None)

    def __str__(self) -> str:
        return self.ending if self.field is None else f"{self.ending}:{self.field}"

    def read(self, tar: IO[bytes], sample: TarSample) -> str | None:
        """Return the label of a sample of an open tar; None where it has none."""
        for member in sample.others:
            ending = member.name[len(sample.key) :].lstrip("./_-").lower()
            if fnmatch.fnmatchcase(ending, self.ending.lower()) and member.size <= _MOST:
                tar.seek(member.offset)
                return self._label(tar.read(member.size))
        return None

    def _label(self, data: bytes) -> str | None:
        text = data.decode("utf-8", "replace")
        if self.field is None:
            return text.strip() or None
        try:
            document = json.loads(text)
        except ValueError:
            return None
        value = document.get(self.field) if isinstance(document, dict) else None
        return None if value is None or isinstance(value, (dict, list)) else str(value).strip() or None
