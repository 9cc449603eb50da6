"""The part of a split that a run uses: which clips meet the conditions of ``where``, one bit a clip.

Planning needs the number of chosen clips of every shard, so every index is read once, at the start of a run; what
comes out is small (1.25 MB for ten million clips), is kept in the run's folder and handed to every rank and worker.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.loading import build, to_tree
from pal_ds.config.sources import Where
from pal_ds.formats.clip_scan import ShardScan, scan_shards
from pal_ds.formats.shardset import ShardSetError, SplitEntry

FORMAT = "pal-selection/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen clips of a split.

    Attributes:
        shard_clips: all clips of each shard, in the manifest's order.
        counts: chosen clips of each shard.
        shard_bytes: bytes of the chosen samples of each shard.
        frames: frames of all chosen clips.
        seconds: seconds of all chosen clips.
        bits: one bit for each clip of the split, from the highest of each byte; set where the clip is chosen.
    """

    shard_clips: tuple[int, ...]
    counts: tuple[int, ...]
    shard_bytes: tuple[int, ...]
    frames: int
    seconds: float
    bits: bytes

    @property
    def clips(self) -> int:
        """Chosen clips."""
        return sum(self.counts)

    @property
    def digest(self) -> str:
        """SHA-256 of the bits, in short: what is chosen of a split, whatever chose it."""
        return hashlib.sha256(self.bits).hexdigest()[:32]

    @functools.cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.shard_clips)]).astype(np.int64)

    def chosen(self, shard: int) -> npt.NDArray[np.bool_]:
        """Return which samples of a shard are chosen, bool [samples]."""
        first, last = int(self._firsts[shard]), int(self._firsts[shard + 1])
        packed = np.frombuffer(self.bits, dtype=np.uint8)[first // 8 : -(-last // 8)]
        skip = first % 8
        return np.unpackbits(packed)[skip : skip + last - first].astype(np.bool_)

    def part_of(self, split: SplitEntry) -> SplitEntry:
        """Return the split as if it had the chosen clips alone; shards without any stay in their places."""
        shards = tuple(
            dataclasses.replace(shard, clips=clips, bytes=size)
            for shard, clips, size in zip(split.shards, self.counts, self.shard_bytes, strict=True)
        )
        return dataclasses.replace(
            split,
            clips=self.clips,
            frames=self.frames,
            seconds=self.seconds,
            bytes=sum(self.shard_bytes),
            shards=shards,
        )

    def to_bytes(self) -> bytes:
        """Return the selection as a compressed file: a line of JSON, then the bits."""
        head = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del head["bits"]
        return zlib.compress(json.dumps({"format": FORMAT, **head}).encode() + b"\n" + self.bits)

    @classmethod
    def from_bytes(cls, data: bytes) -> Selection:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ShardSetError: it is something else, or cut short.
        """
        try:
            head, _, bits = zlib.decompress(data).partition(b"\n")
            fields = json.loads(head)
            if fields.pop("format") != FORMAT:
                raise ValueError("another format")
            found = cls(
                shard_clips=tuple(fields["shard_clips"]),
                counts=tuple(fields["counts"]),
                shard_bytes=tuple(fields["shard_bytes"]),
                frames=int(fields["frames"]),
                seconds=float(fields["seconds"]),
                bits=bits,
            )
            if len(bits) != -(-sum(found.shard_clips) // 8):
                raise ValueError("cut short")
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise ShardSetError(f"selection: {error}") from error
        return found

    def to_text(self) -> str:
        """Return the selection as ASCII text."""
        return base64.b64encode(self.to_bytes()).decode()

    @classmethod
    def from_text(cls, text: str) -> Selection:
        """Read what :meth:`to_text` returned."""
        return cls.from_bytes(base64.b64decode(text))


class ConditionError(ValueError):
    """Conditions that can't be understood: one line with the field, the value and the fix."""


def parse_where(text: str) -> Where:
    """Make conditions from a mapping in YAML, as on a command line; its braces may be left out.

    Raises:
        ConditionError: it is no mapping, or a condition is unknown or wrong.
    """
    try:
        tree = yaml.safe_load(text if text.lstrip().startswith("{") else f"{{{text}}}")
        if not isinstance(tree, dict):
            raise ConditionError(f"{text!r}: write conditions as name: value, name: value")
        return build(Where, tree, "where.")
    except ConfigError as error:
        raise ConditionError(str(error)) from error
    except yaml.YAMLError as error:
        raise ConditionError(f"{text!r}: not readable as YAML: {' '.join(str(error).split())}") from error


#: What conditions say, as far as this process has found out or was told.
_described: dict[Where, dict[str, Any]] = {}


def know_conditions(where: Where, described: dict[str, Any]) -> None:
    """Take over what another process's :func:`describe_where` returned: files of keys are then not read here."""
    _described[where] = described


def forget_conditions() -> None:
    """Read files of keys anew the next time: a run begins."""
    _described.clear()


def describe_where(where: Where) -> dict[str, Any]:
    """Return the conditions that are set, by name; for a file of keys, what it holds and not where it lies.

    A file of keys is read once, until :func:`forget_conditions`.

    Raises:
        StorageError: a file of keys can't be read.
    """
    if where in _described:
        return _described[where]
    default = to_tree(Where())
    found = {name: value for name, value in to_tree(where).items() if value != default[name]}
    for name in ("keys", "exclude_keys"):
        if name in found:
            content = storage.read_bytes(found[name], retry=storage.AT_START)
            found[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    know_conditions(where, found)
    return found


def selection_id(manifest_digest: str, split: str, where: Where) -> str:
    """Return a name for what a selection is: equal for equal sets, splits and conditions."""
    document = {"manifest": manifest_digest, "split": split, "where": describe_where(where)}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]


def select(
    url: str,
    split: SplitEntry,
    where: Where,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Selection:
    """Read the indexes of a split, and where conditions ask for them the clips' records, and choose.

    Args:
        url: the shard set.
        split: the split.
        where: the conditions.
        progress: told of the shards done and of all, after each.

    Raises:
        ShardSetError: an index can't be understood or disagrees with the manifest.
        StorageError: something can't be read.
    """
    scans: list[ShardScan | None] = [None] * len(split.shards)
    for done, (number, scan) in enumerate(scan_shards(url, split, where), 1):
        scans[number] = scan
        progress(done, len(split.shards))
    found = [scan for scan in scans if scan is not None]
    return Selection(
        shard_clips=tuple(shard.clips for shard in split.shards),
        counts=tuple(int(scan.chosen.sum()) for scan in found),
        shard_bytes=tuple(scan.bytes for scan in found),
        frames=sum(scan.frames for scan in found),
        seconds=sum(scan.seconds for scan in found),
        bits=np.packbits(np.concatenate([scan.chosen for scan in found])).tobytes() if found else b"",
    )
