"""Where the clips of a shard lie, in few bytes, and how they are read together."""

from __future__ import annotations

import builtins
import dataclasses
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from pal_ds.data.order.slices import IntArray
from pal_ds.formats.shard_index import AdoptedVideo
from pal_ds.formats.shardset import SampleRecord, ShardIndex
from pal_ds.formats.tar_samples import SampleMembers, adopted_sample, split_samples

#: Samples closer than this are read in one range; the gap is thrown away (bytes).
GAP_BYTES = 64 << 10
#: A range is not made longer than this by joining samples (bytes).
RANGE_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class ClipIndex:
    """A shard's index in few bytes: 10M-clip sets touch many of them.

    Attributes:
        tar: URL of the tar.
        keys: of the samples.
        offsets: first byte of each sample; of an adopted tar, of its video.
        sizes: bytes of it; 0 where the clip was taken down.
        videos: records of an adopted tar's clips as JSON, with their members' names; None where the tar has them.
    """

    tar: str
    keys: npt.NDArray[np.bytes_]
    offsets: IntArray
    sizes: IntArray
    videos: tuple[tuple[bytes, str], ...] | None

    @classmethod
    def of(cls, document: ShardIndex, folder: str) -> ClipIndex:
        """Return the index of a shard of the set at ``folder``."""
        samples = document.samples
        places = [
            (sample.offset, sample.size)
            if sample.video is None
            else (sample.video.offset, sample.video.record.bytes)
            for sample in samples
        ]
        videos = [
            (b"", "") if sample.video is None else (sample.video.record.to_json(), sample.video.member)
            for sample in samples
        ]
        return cls(
            tar=document.tar(folder),
            keys=np.array([sample.key.encode() for sample in samples], dtype=np.bytes_),
            offsets=np.array([offset for offset, _ in places], dtype=np.int64),
            sizes=np.array([size for _, size in places], dtype=np.int64),
            videos=tuple(videos) if any(sample.video is not None for sample in samples) else None,
        )

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        videos = sum(sys.getsizeof(record) + sys.getsizeof(name) + 56 for record, name in self.videos or ())
        return self.keys.nbytes + self.offsets.nbytes + self.sizes.nbytes + videos

    def key(self, clip: int) -> str:
        """Return a sample's key."""
        return bytes(self.keys[clip]).decode()

    def samples(self, data: builtins.bytes, start: int, clips: Iterable[int]) -> Iterator[SampleMembers]:
        """Yield the samples in a range of the tar that begins at byte ``start`` and holds ``clips``.

        Raises:
            ShardSetError: the bytes are no samples.
        """
        if self.videos is None:
            yield from split_samples(data)
            return
        for clip in clips:
            record, member = self.videos[clip]
            offset = int(self.offsets[clip])
            video = AdoptedVideo(member=member, offset=offset, record=SampleRecord.from_json(record))
            yield adopted_sample(data, start, self.key(clip), video)


def joined(clips: IntArray, index: ClipIndex) -> Iterator[IntArray]:
    """Cut clips (sorted) into runs that one range request reads well."""
    first = 0
    for number in range(1, len(clips) + 1):
        if number < len(clips):
            end = index.offsets[clips[number - 1]] + index.sizes[clips[number - 1]]
            gap = index.offsets[clips[number]] - end
            length = index.offsets[clips[number]] + index.sizes[clips[number]] - index.offsets[clips[first]]
            if 0 <= gap <= GAP_BYTES and length <= RANGE_BYTES:
                continue
        yield clips[first:number]
        first = number
