"""``pal-shard remove`` and ``compact``: takes clips down, at once or with the bytes they lie among."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_index import taken_down
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry, sample_key
from pal_ds.storage.scratch import scratch_folder

from ..builder.journal import FOLDER, Journal
from ..errors import UsageError
from ..progress import Progress
from .audit import Removal, add_removals, read_removals
from .generations import Lineage, commit, following, next_numbers, read_indexes
from .intent import Intent, ShardChange, drop_intent, read_intent, write_intent
from .purge import purge
from .rewriting import Rewritten, rewrite


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
            intent = Intent(changes=changes, time=_now(), reason=options.reason, purge=options.purge)
            write_intent(dest, intent)
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
            write_intent(dest, Intent(changes=changes, time=_now(), reason="", purge=True))
            deleted = finish_change(dest, scratch, workers=workers, quiet=quiet)
        else:
            deleted = purge(dest)
        return dataclasses.replace(_result(dest), shards=len(holey), deleted=len(deleted))


def finish_change(dest: str, scratch: Path, *, workers: int = 1, quiet: bool = False) -> list[str]:
    """Do what the intent at DEST says, wherever it was interrupted; nothing where there is none.

    Returns:
        The names of the tars that were deleted.

    Raises:
        ShardSetError: the set can't be understood.
        StorageError: DEST can't be read or written.
    """
    intent = read_intent(dest)
    if intent is None:
        return []
    manifest = shardset.load_manifest(dest)
    present = {entry.name for entry in manifest.shards()}
    if any(change.old in present for change in intent.changes):
        made = _rewrite_all(dest, manifest, intent, scratch, workers=workers, quiet=quiet)
        # Read again: rewriting takes its time, and an append may have ended meanwhile.
        manifest = shardset.load_manifest(dest)
        commit(dest, _without(manifest, intent, made))
    _leave_tombstones(dest, intent)
    if intent.keys:
        add_removals(dest, [Removal(key, intent.time, intent.reason) for key in intent.keys])
    deleted = purge(dest) if intent.purge else []
    journal = Journal(dest)
    if FOLDER not in journal.names():
        # An append under way writes, too, and removes them at its end.
        journal.remove_temporaries()
    drop_intent(dest)
    return deleted


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
    begun = Journal(dest).read_plan()
    reserved = [shardset.shard_name(shard.split, shard.number) for shard in begun.shards] if begun else []
    numbers = next_numbers(dest, [*reserved, *(entry.name for entry in manifest.shards())])
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


def _rewrite_all(
    dest: str, manifest: Manifest, intent: Intent, scratch: Path, *, workers: int, quiet: bool
) -> dict[str, Rewritten]:
    entries = {entry.name: entry for entry in manifest.shards()}
    made: dict[str, Rewritten] = {}
    Journal(dest).try_to_abort_uploads({change.new for change in intent.changes if change.new is not None})
    with (
        Progress(len(intent.changes), label="shards", quiet=quiet) as progress,
        ThreadPoolExecutor(workers, "rewrite") as pool,
    ):

        def one(change: ShardChange) -> None:
            made[change.old] = rewrite(dest, entries[change.old], change, scratch)
            progress.clip(entries[change.old].bytes if change.is_rewritten else 0)

        list(pool.map(one, intent.changes))
    return made


def _without(manifest: Manifest, intent: Intent, made: dict[str, Rewritten]) -> Manifest:
    """Return the next generation: each touched shard's successor in its place."""
    splits: dict[str, SplitEntry] = {}
    for name, split in manifest.splits.items():
        mine = [made[entry.name] for entry in split.shards if entry.name in made]
        shards = _replaced(split.shards, made)
        if shards:
            splits[name] = SplitEntry(
                clips=sum(entry.clips for entry in shards),
                frames=split.frames - sum(each.frames for each in mine),
                seconds=round(split.seconds - sum(each.seconds for each in mine), 6),
                bytes=sum(entry.bytes for entry in shards),
                shards=shards,
            )
    after = following(manifest, splits)
    return dataclasses.replace(after, removed=manifest.removed + len(intent.keys))


def _replaced(shards: Sequence[ShardEntry], made: dict[str, Rewritten]) -> tuple[ShardEntry, ...]:
    kept = (made[entry.name].entry if entry.name in made else entry for entry in shards)
    return tuple(entry for entry in kept if entry is not None)


def _leave_tombstones(dest: str, intent: Intent) -> None:
    """Take the clips out of the indexes of older generations; the others keep their places, on which runs rely."""
    lineage = Lineage.of(dest, shardset.load_manifest(dest))
    for change in intent.changes:
        gone = set(change.keys)
        for name in lineage.ancestors(change.old) if gone else ():
            index = shardset.load_index(dest, name)
            samples = tuple(
                taken_down(sample.key) if sample.key in gone else sample for sample in index.samples
            )
            if samples != index.samples:
                data = dataclasses.replace(index, samples=samples).to_json()
                storage.write_bytes(storage.join(dest, shardset.index_name(name)), data)


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
