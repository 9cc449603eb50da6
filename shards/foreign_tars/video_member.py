"""Which members of a foreign tar are videos, and which belong to one sample (``--video-member``)."""

from __future__ import annotations

import dataclasses
import fnmatch
import re

from pal_ds.formats.video_file import is_video_name

from ..errors import UsageError

#: What webdataset takes for key and ending: the ending begins at the first dot of the last component.
_WEBDATASET = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)
_PLACE = "{key}"
#: What may follow a key in the names of its sample's other members.
_AFTER_KEY = "./_-"


@dataclasses.dataclass(frozen=True)
class VideoMember:
    """How the videos of a tar are named.

    Attributes:
        pattern: None for any ending of a video file; an ending after the key, with ``*``, as ``mp4`` or
            ``left.mp4``; or a whole name in which ``{key}`` stands for the key, as ``{key}/video.mp4``.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None and (
            not self.pattern.strip(".*") or self.pattern.count(_PLACE) > 1 or self.pattern == _PLACE
        ):
            raise UsageError(
                f"--video-member {self.pattern!r}: give an ending, as mp4 or left.mp4, or a name with one "
                "{key}, as '{key}/video.mp4'"
            )

    @property
    def is_whole_name(self) -> bool:
        """Whether the pattern is of whole names."""
        return self.pattern is not None and _PLACE in self.pattern

    def key_of(self, name: str) -> str | None:
        """Return the key of a member by webdataset's rule; None where it has no ending.

        With a pattern of whole names: the key of a video, None for any other member.
        """
        if self.is_whole_name:
            assert self.pattern is not None
            head, _, tail = self.pattern.partition(_PLACE)
            found = re.fullmatch(f"{_regex(head)}(.+?){_regex(tail)}", name, re.DOTALL)
            return found[1] if found else None
        found = _WEBDATASET.fullmatch(name)
        return found[1] if found else None

    def is_video(self, name: str) -> bool:
        """Tell whether a member is a sample's video."""
        if self.is_whole_name:
            return self.key_of(name) is not None
        found = _WEBDATASET.fullmatch(name)
        if found is None:
            return False
        if self.pattern is None:
            return is_video_name(name)
        return fnmatch.fnmatchcase(found[2].lower(), self.pattern.lower().lstrip("."))

    @staticmethod
    def belongs(name: str, key: str) -> bool:
        """Tell whether a member that is no video lies beside the video of ``key``, by its name."""
        return name.startswith(key) and name[len(key) : len(key) + 1] in _AFTER_KEY and name != key


def _regex(text: str) -> str:
    """Return the regular expression of a piece of a pattern, in which ``*`` stands for anything."""
    return ".*?".join(re.escape(piece) for piece in text.split("*"))
