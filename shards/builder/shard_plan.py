"""Decides, before any transcode, which clip goes to which shard (docs/formats.md, "Shard set")."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator

from ..catalog.database import ROW_COLUMNS, TOGETHER_BY_LABEL, decode, encode, keyed_hash, rows_from
from ..catalog.gather import Catalog
from ..catalog.rows import Row
from ..encoding.profiles import Profile
from ..errors import UsageError

_SPLIT = re.compile(r"[A-Za-z0-9_]{1,64}")
_MAX_SHARDS = 1_000_000
#: Tar headers, padding and the record of one clip.
_TAR_BYTES = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How clips are dealt to splits and shards.

    Attributes:
        shard_bytes: shards are closed when their expected size reaches this.
        split: the one split, where neither of the next two is given.
        split_column: each row goes to the split its table or shard set names.
        val_fraction: share of the clips that goes to ``val``, whole source videos at a time; the rest is ``train``.
        limit: only the first so many clips of the shuffled catalog are inputs.
        seed: of the shuffle and of the choice of ``val``.
    """

    shard_bytes: int = 64 << 20
    split: str | None = None
    split_column: bool = False
    val_fraction: float | None = None
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = [self.split is not None, self.split_column, self.val_fraction is not None]
        if sum(given) > 1:
            raise UsageError("--split, --split-column and --val-fraction exclude each other: give one")
        if self.split is not None and not _SPLIT.fullmatch(self.split):
            raise UsageError(f"--split {self.split!r}: use letters, digits and underscores")
        if self.val_fraction is not None and not 0.0 < self.val_fraction < 1.0:
            raise UsageError(f"--val-fraction {self.val_fraction}: give a share between 0 and 1, as 0.1")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit}: give a number of clips from 1")
        if self.shard_bytes < 1000:
            raise UsageError(f"--shard-bytes {self.shard_bytes}: give at least 1KB")


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard to be made: its split, number, clips and expected bytes."""

    split: str
    number: int
    clips: int
    expected_bytes: int


class Plan:
    """The assignment of clips to shards, kept in the catalog's database.

    Attributes:
        shards: every planned shard in order.
        digest: hash of the whole assignment and of what the catalog rejected.
        inputs: number of inputs.
    """

    def __init__(self, catalog: Catalog, options: PlanOptions, profile: Profile) -> None:
        self.catalog = catalog
        self.options = options
        self._database = catalog.database
        self._database.execute("BEGIN")
        self._database.execute(
            """CREATE TABLE clips (target TEXT, shard INTEGER, position INTEGER, input INTEGER,
                                   PRIMARY KEY (target, shard, position)) WITHOUT ROWID"""
        )
        self._apply_limit()
        target = self._target()
        if catalog.options.keep_labels:
            # Last: of four clips that are together none is taken out any more.
            self._database.execute(TOGETHER_BY_LABEL.format(split=target))
        self.shards = self._deal(profile, target)
        self._database.execute("COMMIT")
        self.inputs = catalog.count()
        self.digest = self._digest()

    def rows(self, shard: PlannedShard) -> list[Row]:
        """Return the clips of one shard in order."""
        query = (
            f"SELECT {ROW_COLUMNS} FROM clips JOIN inputs ON clips.input = inputs.id "  # noqa: S608
            "WHERE clips.target = ? AND clips.shard = ? ORDER BY clips.position"
        )
        return list(rows_from(self._database.execute(query, (shard.split, shard.number)).fetchall()))

    def split_values(self) -> dict[str, int]:
        """Return how many usable inputs name each split in their table."""
        query = "SELECT split, count(*) FROM inputs WHERE stage IS NULL AND split IS NOT NULL GROUP BY split"
        return dict(self._database.execute(query).fetchall())

    def _apply_limit(self) -> None:
        if self.options.limit is not None:
            self._database.execute(
                """DELETE FROM inputs WHERE id NOT IN (SELECT id FROM inputs WHERE stage IS NULL
                   ORDER BY shuffle, source LIMIT ?)""",
                (self.options.limit,),
            )

    def _target(self) -> str:
        """Return the SQL expression that names an input's split."""
        options = self.options
        if options.split_column:
            self._check_split_column()
            return "split"
        if options.val_fraction is None:
            return f"'{options.split or 'train'}'"
        self._database.execute("CREATE TABLE held_out (grp BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.executemany(
            "INSERT INTO held_out VALUES (?)", ((group,) for group in self._val_groups())
        )
        return "CASE WHEN grp IN (SELECT grp FROM held_out) THEN 'val' ELSE 'train' END"

    def _check_split_column(self) -> None:
        for split, count in self._database.execute(
            "SELECT split, count(*) FROM inputs WHERE stage IS NULL GROUP BY split"
        ):
            if split is None:
                raise UsageError(f"--split-column: {count} inputs name no split")
            if not _SPLIT.fullmatch(split):
                raise UsageError(
                    f"--split-column: {split!r} is no split name: use letters, digits and underscores"
                )

    def _val_groups(self) -> list[bytes]:
        """Choose whole source videos in the order of their hashes until the share is reached, and at least one."""
        assert self.options.val_fraction is not None
        key = self.options.seed.to_bytes(16, "little", signed=True)
        groups = [
            (keyed_hash(key, decode(group), b"val"), group, count)
            for group, count in self._database.execute(
                "SELECT grp, count(*) FROM inputs WHERE stage IS NULL GROUP BY grp"
            )
        ]
        groups.sort()
        budget = self.options.val_fraction * sum(count for _, _, count in groups)
        chosen: list[bytes] = []
        taken = 0
        for _, group, count in groups:
            if taken + count <= budget + 0.5:
                chosen.append(group)
                taken += count
        if not chosen and len(groups) > 1:
            chosen = [min(groups, key=lambda item: (item[2], item[0]))[1]]
        return chosen

    def _deal(self, profile: Profile, target: str) -> list[PlannedShard]:
        """Fill shards in the shuffled order of each split; write the assignment, return the shards."""
        query = (
            f'SELECT {target}, id, size, "end" - start FROM inputs WHERE stage IS NULL '  # noqa: S608
            "ORDER BY 1, shuffle, source"
        )
        shards: list[PlannedShard] = []
        limit = self.options.shard_bytes

        def placed() -> Iterator[tuple[str, int, int, int]]:
            name, number, clips, total = "", 0, 0, 0
            for split, row_id, size, seconds in self._database.execute(query):
                expected = profile.expected_bytes(size, seconds) + _TAR_BYTES
                if clips and (split != name or total + expected // 2 > limit):
                    shards.append(PlannedShard(name, number, clips, total))
                    number, clips, total = (number + 1 if split == name else 0), 0, 0
                name = split
                yield split, number, clips, row_id
                clips += 1
                total += expected
            if clips:
                shards.append(PlannedShard(name, number, clips, total))

        self._database.executemany("INSERT INTO clips VALUES (?, ?, ?, ?)", placed())
        if shards and max(shard.number for shard in shards) >= _MAX_SHARDS:
            raise UsageError("more than a million shards: raise --shard-bytes")
        return shards

    def _digest(self) -> str:
        hasher = hashlib.sha256()
        query = (
            'SELECT clips.target, shard, key, source, location, size, start, "end", span, label, offset '
            "FROM clips JOIN inputs ON clips.input = inputs.id ORDER BY clips.target, shard, position"
        )
        cursor = self._database.execute(query)
        # Lines are joined in blocks of 10,000, as sets that were begun before have it; only some are held at a time.
        hashed = 0
        while rows := cursor.fetchmany(500):
            hasher.update(b"\n" if hashed % 10_000 else b"")
            hasher.update("\n".join(map(repr, rows)).encode())
            hashed += len(rows)
        for reject in self.catalog.rejects():
            hasher.update(encode(json.dumps(["rejected", reject.source, reject.stage, reject.error])))
        return hasher.hexdigest()
