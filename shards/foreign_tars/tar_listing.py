"""Lists the samples of a foreign tar by its headers: names, places and sizes, nothing of the contents."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO

from .video_member import VideoMember

_BLOCK = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One file in a tar.

    Attributes:
        name: as written; data, never a path.
        start: first byte of its first header.
        offset: first byte of its content.
        size: bytes of its content.
    """

    name: str
    start: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after its padding."""
        return self.offset + -(-self.size // _BLOCK) * _BLOCK


@dataclasses.dataclass(frozen=True, slots=True)
class TarSample:
    """Members of one key that lie side by side.

    Attributes:
        key: as the tar has it.
        videos: its video members; one in a sound sample.
        others: its other members.
    """

    key: str
    videos: tuple[Member, ...]
    others: tuple[Member, ...]

    @property
    def start(self) -> int:
        """First byte of the sample."""
        return min(member.start for member in (*self.videos, *self.others))

    @property
    def end(self) -> int:
        """First byte after the sample."""
        return max(member.end for member in (*self.videos, *self.others))


@dataclasses.dataclass(frozen=True)
class TarListing:
    """What a tar holds.

    Attributes:
        samples: in the order of the tar.
        problem: why there may have been more, or None.
    """

    samples: tuple[TarSample, ...]
    problem: str | None


def list_tar(file: IO[bytes], size: int, videos: VideoMember) -> TarListing:
    """Read the headers of an uncompressed tar, up to its end or to where it is damaged.

    Args:
        file: the tar, seekable.
        size: its bytes.
        videos: how its videos are named.
    """
    members: list[Member] = []
    problem = None
    try:
        # tarfile takes a damaged header for the archive's end, so that what follows must be looked at.
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for found in tar:
                if found.isreg() and not found.issparse():
                    member = Member(found.name, found.offset, found.offset_data, found.size)
                    if member.offset + member.size > size:
                        problem = f"ends in the middle of {member.name!r}"
                        break
                    members.append(member)
            end = tar.offset
        if problem is None:
            file.seek(end)
            if file.read(_BLOCK).strip(b"\0"):
                problem = f"is damaged from byte {end} on"
    except (tarfile.TarError, EOFError, ValueError) as error:
        last = f" after {members[-1].name!r}" if members else ""
        problem = f"can't be read as an uncompressed tar{last}: {error}"
    return TarListing(tuple(group_members(members, videos)), problem)


def group_members(members: Sequence[Member], videos: VideoMember) -> Iterator[TarSample]:
    """Put members of one key that lie side by side into samples."""
    if videos.is_whole_name:
        yield from _around_videos(members, videos)
        return
    group: list[Member] = []
    current: str | None = None
    for member in members:
        key = videos.key_of(member.name)
        if key is None:
            continue
        if key != current and current is not None:
            yield _sample(current, group, videos)
            group = []
        current = key
        group.append(member)
    if current is not None:
        yield _sample(current, group, videos)


def _sample(key: str, group: Sequence[Member], videos: VideoMember) -> TarSample:
    return TarSample(
        key,
        tuple(member for member in group if videos.is_video(member.name)),
        tuple(member for member in group if not videos.is_video(member.name)),
    )


def _around_videos(members: Sequence[Member], videos: VideoMember) -> Iterator[TarSample]:
    """Yield a sample for each video, with the neighbours that its key begins."""
    keys = [videos.key_of(member.name) for member in members]
    taken = 0
    for place, key in enumerate(keys):
        if key is None:
            continue
        first = place
        while first > taken and keys[first - 1] is None and videos.belongs(members[first - 1].name, key):
            first -= 1
        last = place + 1
        while last < len(keys) and keys[last] is None and videos.belongs(members[last].name, key):
            last += 1
        taken = last
        others = (*members[first:place], *members[place + 1 : last])
        yield TarSample(key, (members[place],), others)
