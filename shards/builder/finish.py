"""Puts the parts of a build together: ``rejects.jsonl``, then ``manifest.json``, then no trace of the build."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry, sample_key

from ..catalog.database import decode, encode
from ..catalog.rows import Reject
from ..errors import BuildError
from .journal import Journal
from .unfinished import Part, PlanRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build came to.

    Attributes:
        dest: the shard set's folder, without credentials.
        state: ``finished``, ``planned`` (dry run) or ``task done`` (one of several tasks).
        inputs: inputs of the whole set, or of the task.
        clips: inputs in shards.
        rejected: inputs in ``rejects.jsonl``.
        rejects: number of rejects by stage.
        splits: clips, shards, bytes and seconds of each split.
        equal_content: clips whose bytes are equal to another clip's under a different name.
        redone: shards made by this run.
        copied: clips packed as their sources were, None where the recipe leaves no choice.
    """

    dest: str
    state: str
    inputs: int
    clips: int
    rejected: int
    rejects: dict[str, int]
    splits: dict[str, dict[str, float]]
    equal_content: int = 0
    redone: int = 0
    copied: int | None = None

    @property
    def exit_status(self) -> int:
        """0 where every input is in a shard, 3 where some are rejected."""
        return 3 if self.rejected else 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        document = dataclasses.asdict(self)
        if self.copied is None:
            del document["copied"]
        return {**document, "rejects_file": shardset.REJECTS_NAME if self.rejected else None}


def finish(journal: Journal, plan: PlanRecord, scratch: Path, *, redone: int = 0) -> BuildResult:
    """Check that all parts are there, publish rejects and manifest, and remove the parts.

    Raises:
        BuildError: shards are missing.
        StorageError: DEST can't be read or written.
    """
    merger = merged(journal, plan, scratch)
    rejects_path = scratch / shardset.REJECTS_NAME
    splits = merger.splits()
    merger.write_rejects(rejects_path)
    labels = tuple(sorted(merger.labels)) if plan.recipe.get("with_labels") else None
    rejected = merger.count()
    clips = sum(split.clips for split in splits.values())
    if plan.inputs is not None and clips + rejected != plan.inputs:
        raise BuildError(f"{plan.inputs} inputs, but {clips} clips and {rejected} rejects: use --overwrite")
    storage.upload_file(rejects_path, storage.join(journal.dest, shardset.REJECTS_NAME))
    manifest = Manifest(recipe=plan.recipe, splits=splits, labels=labels, rejected=rejected)
    storage.write_bytes(storage.join(journal.dest, shardset.MANIFEST_NAME), manifest.to_json())
    result = result_of(journal.dest, manifest, merger.stages(), merger.equal_content(), redone)
    merger.close()
    journal.remove()
    return result


def merged(journal: Journal, plan: PlanRecord, scratch: Path) -> Merger:
    """Put the parts of all planned shards together.

    Raises:
        BuildError: shards are missing.
    """
    done = journal.finished_shards()
    missing = [name for name in map(_name, plan.shards) if name not in done]
    if missing:
        raise BuildError(
            f"{len(missing)} of {len(plan.shards)} shards are not finished, first {missing[0]}: run their tasks"
        )
    merger = Merger(scratch / "finish.sqlite")
    path = scratch / "catalog-rejects.jsonl"
    journal.fetch_catalog_rejects(path)
    merger.add_lines(path)
    for shard in plan.shards:
        merger.add_part(shard.split, journal.read_part(_name(shard)))
    return merger


def result_of(
    dest: str, manifest: Manifest, stages: dict[str, int], equal_content: int = 0, redone: int = 0
) -> BuildResult:
    """Describe a finished set as its build's result."""
    clips = sum(split.clips for split in manifest.splits.values())
    return BuildResult(
        dest=storage.redact(dest),
        state="finished",
        inputs=clips + manifest.rejected,
        clips=clips,
        rejected=manifest.rejected,
        rejects=stages,
        splits={
            name: {
                "clips": split.clips,
                "shards": len(split.shards),
                "bytes": split.bytes,
                "seconds": split.seconds,
                "frames": split.frames,
            }
            for name, split in sorted(manifest.splits.items())
        },
        equal_content=equal_content,
        redone=redone,
        copied=copied_clips(manifest),
    )


def copied_clips(manifest: Manifest) -> int | None:
    """Return how many clips of a set were packed as their sources were; None where its recipe leaves no choice."""
    if not manifest.recipe.get("copy_if_conforming"):
        return None
    return sum(entry.copied or 0 for split in manifest.splits.values() for entry in split.shards)


def reject_line(reject: Reject) -> bytes:
    """Return one line of ``rejects.jsonl``."""
    return (json.dumps(dataclasses.asdict(reject), ensure_ascii=True) + "\n").encode()


def read_stages(dest: str, manifest: Manifest) -> dict[str, int]:
    """Count a finished set's rejects by stage."""
    stages = collections.Counter(reject.stage for reject in read_rejects(dest, manifest))
    return dict(sorted(stages.items()))


def read_rejects(dest: str, manifest: Manifest) -> Iterator[Reject]:
    """Yield the rejects of a finished set, as of a generation.

    Raises:
        ShardSetError: a line is no reject.
        StorageError: the file can't be read.
    """
    name = manifest.rejects_file
    data = storage.read_bytes(storage.join(dest, name), retry=storage.AT_START)
    for line in data.splitlines():
        try:
            yield Reject(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise shardset.ShardSetError(f"{name}: malformed line: {error}") from error


def _name(shard: Any) -> str:
    return shardset.shard_name(shard.split, shard.number)


class Merger:
    """Sorts and sums what the parts hold, on disk, as both may be millions of lines.

    Attributes:
        labels: class names in the parts.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            """PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;
               CREATE TABLE rejects (source BLOB, stage TEXT, error TEXT);
               CREATE TABLE contents (key TEXT, digest TEXT);"""
        )
        self._shards: dict[str, list[ShardEntry]] = {}
        self._frames: collections.Counter[str] = collections.Counter()
        self._seconds: dict[str, list[float]] = {}
        self.labels: set[str] = set()

    def add_lines(self, path: Path) -> None:
        """Add the rejects of a file."""
        with path.open("rb") as file:
            self._add_rejects(Reject(**json.loads(line)) for line in file)

    def add_part(self, split: str, part: Part) -> None:
        """Add a finished shard."""
        self._add_rejects(iter(part.rejects))
        self._database.executemany("INSERT INTO contents VALUES (?, ?)", part.contents)
        self.labels.update(part.labels)
        if part.entry is not None:
            self._shards.setdefault(split, []).append(part.entry)
            self._frames[split] += part.frames
            self._seconds.setdefault(split, []).append(part.seconds)

    def add_untried(self, rejects: Iterator[Reject]) -> None:
        """Add the rejects of before whose sources were not tried again: they are neither clips nor rejects here."""
        self._database.executescript(
            "CREATE INDEX by_key ON contents (key); CREATE INDEX by_source ON rejects (source);"
        )
        # What is found is decided before anything is added: a source may have several rejects.
        query = """SELECT EXISTS (SELECT 1 FROM contents WHERE key = ?)
                   OR EXISTS (SELECT 1 FROM rejects WHERE source = ?)"""
        untried = []
        for reject in rejects:
            tried = self._database.execute(query, (sample_key(reject.source), encode(reject.source)))
            if not tried.fetchone()[0]:
                untried.append(reject)
        self._add_rejects(iter(untried))

    def _add_rejects(self, rejects: Iterator[Reject]) -> None:
        self._database.executemany(
            "INSERT INTO rejects VALUES (?, ?, ?)",
            ((encode(reject.source), reject.stage, reject.error) for reject in rejects),
        )

    def splits(self) -> dict[str, SplitEntry]:
        """Return the splits of the parts' shards."""
        return {
            split: SplitEntry(
                clips=sum(entry.clips for entry in entries),
                frames=self._frames[split],
                seconds=round(math.fsum(self._seconds[split]), 6),
                bytes=sum(entry.bytes for entry in entries),
                shards=tuple(entries),
            )
            for split, entries in self._shards.items()
        }

    def rejects(self) -> Iterator[Reject]:
        """Yield all rejects, sorted by source."""
        for source, stage, error in self._database.execute(
            "SELECT source, stage, error FROM rejects ORDER BY source, stage, error"
        ):
            yield Reject(decode(source), stage, error)

    def write_rejects(self, path: Path) -> None:
        """Write all rejects to a file, as ``rejects.jsonl`` lists them."""
        with path.open("wb") as file:
            file.writelines(reject_line(reject) for reject in self.rejects())

    def count(self) -> int:
        """Return the number of rejects."""
        return int(self._database.execute("SELECT count(*) FROM rejects").fetchone()[0])

    def stages(self) -> dict[str, int]:
        """Return the number of rejects by stage."""
        return dict(
            self._database.execute("SELECT stage, count(*) FROM rejects GROUP BY stage ORDER BY stage")
        )

    def equal_content(self) -> int:
        """Return how many clips have the bytes of another."""
        query = "SELECT count(*) - count(DISTINCT digest) FROM contents"
        return int(self._database.execute(query).fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()
