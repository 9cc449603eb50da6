"""``pal-shard remove`` and ``compact``: takes clips down, at once or with the bytes they lie among."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Mapping
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, sample_key
from pal_ds.storage.scratch import scratch_folder

from ..builder.journal import Journal
from ..errors import BuildError, UsageError
from .audit import read_removals
from .finish_change import finish_change
from .generations import Lineage, next_numbers, read_indexes
from .intent import Intent, ShardChange, drop_intent, read_intent, write_intent
from .purge import purge


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoveOptions:
    """Everything ``pal-shard remove`` is told.

    Attributes:
        dest: the shard set.
        names: keys or sources of clips.
        now: only leave the clips out of the indexes; ``compact`` takes the bytes away later.
        purge: delete the tars that held them, too.
        reason: for the audit.
        ignore_unknown: pass over names that are in no shard.
        workers: shards rewritten at a time.
        quiet: say nothing on the way.
    """

    dest: str
    names: Collection[str]
    now: bool = False
    purge: bool = False
    reason: str = ""
    ignore_unknown: bool = False
    workers: int = 1
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.now and self.purge:
            raise UsageError(
                "--now touches no tar and --purge deletes them: give one (compact does the rest)"
            )
        if not self.names:
            raise UsageError("--keys: names no clip: give a file with a key or source a line")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeResult:
    """What a removal or compaction came to.

    Attributes:
        dest: the set, without credentials.
        generation: the newest now.
        clips: clips in it.
        removed: clips taken down by this run.
        unknown: names that were passed over.
        shards: shards that were replaced.
        adopted: of those, how many lie in tars that are not the set's own: their bytes stay.
        deleted: tars deleted.
        kept_tars: tars of older generations that are still there, with clips that were taken down or moved.
    """

    dest: str
    generation: int
    clips: int
    removed: int = 0
    unknown: int = 0
    shards: int = 0
    adopted: int = 0
    deleted: int = 0
    kept_tars: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return dataclasses.asdict(self)


def remove(options: RemoveOptions) -> ChangeResult:
    """Take clips down, after finishing whatever removal was begun before.

    Raises:
        UsageError: a name is in no shard.
        ShardSetError: there is no finished set at DEST.
        StorageError: DEST can't be read or written.
    """
    dest = options.dest
    with scratch_folder() as scratch:
        finish_change(dest, scratch, workers=options.workers, quiet=options.quiet)
        manifest = shardset.load_manifest(dest)
        found, unknown = _locate(dest, manifest, options.names)
        if unknown and not options.ignore_unknown:
            raise UsageError(
                f"--keys: {len(unknown)} of {len(options.names)} names are in no shard, first "
                f"{unknown[0]!r}: mend the list, or give --ignore-unknown"
            )
        entries = {entry.name: entry for entry in manifest.shards()}
        deleted: list[str] = []
        if found:
            changes = _changes(dest, manifest, found, is_rewritten=not options.now)
            _begin(dest, Intent(changes=changes, time=_now(), reason=options.reason, purge=options.purge))
            deleted = finish_change(dest, scratch, workers=options.workers, quiet=options.quiet)
        elif options.purge:
            deleted = purge(dest)
        return dataclasses.replace(
            _result(dest),
            removed=sum(map(len, found.values())),
            unknown=len(unknown),
            shards=len(found),
            adopted=sum(entries[name].is_adopted for name in found),
            deleted=len(deleted),
        )


def compact(dest: str, *, workers: int = 1, quiet: bool = False) -> ChangeResult:
    """Give shards whose clips were taken down at once tars without them, and delete the tars of older generations.

    Raises:
        ShardSetError: there is no finished set at DEST.
        StorageError: DEST can't be read or written.
    """
    with scratch_folder() as scratch:
        finish_change(dest, scratch, workers=workers, quiet=quiet)
        manifest = shardset.load_manifest(dest)
        holey = {entry.name: () for entry in manifest.shards() if entry.url and not entry.is_adopted}
        if holey:
            changes = _changes(dest, manifest, holey, is_rewritten=True)
            _begin(dest, Intent(changes=changes, time=_now(), reason="", purge=True))
            deleted = finish_change(dest, scratch, workers=workers, quiet=quiet)
        else:
            deleted = purge(dest)
        return dataclasses.replace(_result(dest), shards=len(holey), deleted=len(deleted))


def _begin(dest: str, intent: Intent) -> None:
    """Publish an intent.

    Raises:
        BuildError: another removal, or an append that takes the same shard numbers, has begun at the same moment.
    """
    where = f"DEST {storage.redact(dest)}"
    if read_intent(dest) is not None:
        raise BuildError(f"{where}: another removal has begun meanwhile: run the same command again")
    write_intent(dest, intent)
    # The append looks at intents after its plan is published: one of the two sees the other.
    if intent.names & _planned_names(dest):
        drop_intent(dest)
        raise BuildError(f"{where}: an append has begun meanwhile: run the same command again")


def _locate(
    dest: str, manifest: Manifest, names: Collection[str]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Find the shards of clips given by key or source, and the names of which nothing is known."""
    by_key = {name: name for name in names} | {sample_key(name): name for name in names}
    wanted = set(by_key)
    found: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for index in read_indexes(dest, [entry.name for entry in manifest.shards()]):
        mine = [sample.key for sample in index.samples if sample.key in wanted]
        if mine:
            found[index.shard] = tuple(mine)
            seen |= {by_key[key] for key in mine}
    removed = read_removals(dest)
    seen |= {by_key[key] for key in wanted if key in removed}
    return found, sorted(set(names) - seen)


def _changes(
    dest: str, manifest: Manifest, found: Mapping[str, tuple[str, ...]], *, is_rewritten: bool
) -> tuple[ShardChange, ...]:
    """Give the shards that are touched the numbers after all that were ever used."""
    numbers = next_numbers(dest, [*_planned_names(dest), *(entry.name for entry in manifest.shards())])
    changes = []
    for split, listed in sorted(manifest.splits.items()):
        for entry in listed.shards:
            if entry.name not in found:
                continue
            keys, new = found[entry.name], None
            if len(keys) < entry.clips:
                new = shardset.shard_name(split, numbers[split])
                numbers[split] += 1
            changes.append(
                ShardChange(
                    split=split,
                    old=entry.name,
                    new=new,
                    keys=keys,
                    is_rewritten=is_rewritten and not entry.is_adopted,
                )
            )
    return tuple(changes)


def _planned_names(dest: str) -> set[str]:
    """Return the names of the shards of an append under way."""
    begun = Journal(dest).read_plan()
    return {shardset.shard_name(shard.split, shard.number) for shard in begun.shards} if begun else set()


def _result(dest: str) -> ChangeResult:
    manifest = shardset.load_manifest(dest)
    lineage = Lineage.of(dest, manifest)
    names = set(storage.list_names(dest))
    old_tars = lineage.own_tars(lineage.older.values()) - lineage.own_tars(lineage.newest.values())
    return ChangeResult(
        dest=storage.redact(dest),
        generation=manifest.generation,
        clips=sum(entry.clips for entry in manifest.shards()),
        kept_tars=len(old_tars & names),
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
