"""What unfinished work is made of: its plan, and a part for every shard that is done."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pal_ds.formats import shardset
from pal_ds.formats.shard_files import checked_shard_name
from pal_ds.formats.shardset import ShardEntry

from ..catalog.rows import Reject
from ..errors import BuildError
from .shard_plan import PlannedShard

_GIVE_UP = "give it up with pal-shard clean --unfinished"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What one finished shard adds to the set.

    Attributes:
        shard: the planned name.
        entry: the shard, or None where every clip of it was rejected.
        frames: decodable frames in it.
        seconds: of video in it.
        labels: class names in it.
        rejects: its clips that are in no shard.
        contents: (key, first 16 digits of the clip's SHA-256), to find equal content under different names.
    """

    shard: str
    entry: ShardEntry | None
    frames: int
    seconds: float
    labels: tuple[str, ...]
    rejects: tuple[Reject, ...]
    contents: tuple[tuple[str, str], ...]

    def to_json(self) -> bytes:
        """Return the part's bytes."""
        return shardset.dump_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> Part:
        """Parse a part.

        Raises:
            BuildError: it is damaged.
        """
        try:
            document = json.loads(data)
            entry = document["entry"]
            return cls(
                shard=document["shard"],
                entry=None if entry is None else ShardEntry(**entry),
                frames=document["frames"],
                seconds=document["seconds"],
                labels=tuple(document["labels"]),
                rejects=tuple(Reject(**reject) for reject in document["rejects"]),
                contents=tuple((key, digest) for key, digest in document["contents"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(f"a part of the unfinished shards is damaged: {error}: {_GIVE_UP}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """The plan as it lies at DEST: what must be equal for a build to go on.

    Attributes:
        recipe: everything that decides the bytes of the set.
        inputs: their number; None where only the shards will tell.
        shards: the shards to be made.
        appended: of an append: how often the set had been appended to before; None for a build.
        retried: of an append: sources of the set's rejects that are tried again as several clips.
    """

    recipe: dict[str, Any]
    inputs: int | None
    shards: tuple[PlannedShard, ...]
    appended: int | None = None
    retried: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the plan's bytes."""
        document: dict[str, Any] = {
            "recipe": self.recipe,
            "inputs": self.inputs,
            "shards": [dataclasses.astuple(shard) for shard in self.shards],
        }
        if self.appended is not None:
            document |= {"appended": self.appended, "retried": self.retried}
        return (json.dumps(document, separators=(",", ":")) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> PlanRecord:
        """Parse a plan.

        Raises:
            BuildError: it is damaged.
        """
        try:
            document = json.loads(data)
            return cls(
                recipe=document["recipe"],
                inputs=document["inputs"],
                shards=tuple(_planned(*shard) for shard in document["shards"]),
                appended=document.get("appended"),
                retried=tuple(document.get("retried", ())),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(f"the plan of the unfinished shards is damaged: {error}: {_GIVE_UP}") from error


def _planned(split: str, number: int, clips: int, expected_bytes: int) -> PlannedShard:
    checked_shard_name(shardset.shard_name(split, number))
    return PlannedShard(split, number, clips, expected_bytes)
