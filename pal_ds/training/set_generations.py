"""Which generation of its shard sets a run reads: the one it began with, whoever appends or removes meanwhile."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from pal_ds import storage
from pal_ds.config import Config
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest

log = logging.getLogger(__name__)


def look_again(
    config: Config, manifests: tuple[Manifest, ...], digests: Sequence[str], *, resumed: bool
) -> tuple[Manifest, ...]:
    """Return the manifests of the generations that a run began with, which this process reads from now on.

    Args:
        config: the run.
        manifests: of the newest generations. Returned as they are where a set has no generation with its digest, or
            the number of sets is another: the check of the run's identity will tell.
        digests: of the manifests that the run began with.
        resumed: whether it began before this start.

    Raises:
        ShardSetError: not resumed, and a set has no such generation: then ranks would read different ones.
    """
    if len(digests) != len(manifests):
        return manifests
    found = []
    for source, newest, digest in zip(config.data.sources, manifests, digests, strict=True):
        try:
            old = newest.digest == digest
            found.append(newest if old else shardset.load_manifest(source.url, digest=digest))
        except shardset.ShardSetError as error:
            if not resumed:
                raise
            log.warning("%s", error)
            return manifests
    for source, manifest in zip(config.data.sources, found, strict=True):
        shardset.pin(source.url, manifest.digest)
    return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generations:
    """The generations of a run's shard sets, in their order: those it reads, and the newest at this start."""

    mine: tuple[int, ...]
    newest: tuple[int, ...]

    def details(self) -> dict[str, Any]:
        """Return what the event of a start says of them; empty where no set has ever changed."""
        if max(self.newest) == 1:
            return {}
        if len(self.mine) == 1:
            return {"generation": self.mine[0], "newest_generation": self.newest[0]}
        return {"generations": list(self.mine), "newest_generations": list(self.newest)}

    def notes(self, config: Config) -> Iterator[str]:
        """Yield a sentence for each set that has a newer generation than the run reads."""
        for source, mine, newest in zip(config.data.sources, self.mine, self.newest, strict=True):
            if mine != newest:
                name = "the shard set" if len(self.mine) == 1 else storage.redact(source.url)
                yield (
                    f"{name} has generation {newest} now: this run goes on with generation {mine}, "
                    "with which it began"
                )
