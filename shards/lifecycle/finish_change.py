"""Does what an intent says: new shards, a new generation, no trace of the clips in the older ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_index import taken_down
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry

from ..builder.journal import FOLDER, Journal
from ..errors import BuildError
from ..progress import Progress
from .audit import Removal, add_removals
from .generations import Lineage, OvertakenError, commit, following
from .intent import Intent, ShardChange, drop_intent, read_intent
from .purge import purge
from .rewriting import Rewritten, rewrite

#: How often a change is published again that another generation overtook.
_COMMITS = 5


def finish_change(dest: str, scratch: Path, *, workers: int = 1, quiet: bool = False) -> list[str]:
    """Do what the intent at DEST says, wherever it was interrupted; nothing where there is none.

    Whether the process that wrote the intent is still at work can't be known. So several may do this at a time: each
    makes the same bytes, and each stops when the intent is gone.

    Returns:
        The names of the tars that were deleted.

    Raises:
        BuildError: another removal was begun in place of this one.
        ShardSetError: the set can't be understood.
        StorageError: DEST can't be read or written.
    """
    intent = read_intent(dest)
    if intent is None:
        return []
    try:
        _commit_change(dest, intent, scratch, workers=workers, quiet=quiet)
        _leave_tombstones(dest, intent)
        if intent.keys:
            add_removals(dest, [Removal(key, intent.time, intent.reason) for key in intent.keys])
        return _clear_up(dest, intent)
    except (_EndedElsewhereError, storage.StorageNotFoundError, FileNotFoundError):
        # Who finishes it first deletes old tars, and on disks the temporary files of who comes second.
        if read_intent(dest) == intent:
            raise
        if _is_due(shardset.load_manifest(dest), intent):
            raise BuildError(
                f"DEST {storage.redact(dest)}: another removal has begun meanwhile: run the same command again"
            ) from None
        return []


class _EndedElsewhereError(Exception):
    """The intent that is being finished is at DEST no more."""


def _is_due(manifest: Manifest, intent: Intent) -> bool:
    """Tell whether a change is not in the newest generation yet."""
    present = {entry.name for entry in manifest.shards()}
    return any(change.old in present for change in intent.changes)


def _commit_change(dest: str, intent: Intent, scratch: Path, *, workers: int, quiet: bool) -> None:
    """Make the shards that take others' places, and publish the generation that has them."""
    made: dict[str, Rewritten] | None = None
    for is_last in (False,) * _COMMITS + (True,):
        # Read again each time: rewriting takes its time, and an append may have ended meanwhile.
        manifest = shardset.load_manifest(dest)
        if not _is_due(manifest, intent):
            return
        if made is None:
            made = _rewrite_all(dest, manifest, intent, scratch, workers=workers, quiet=quiet)
            continue
        try:
            commit(dest, _without(manifest, intent, made))
            return
        except OvertakenError:
            if is_last:
                raise


def _clear_up(dest: str, intent: Intent) -> list[str]:
    """Delete what the change leaves behind, and its intent at last."""
    if read_intent(dest) != intent:
        raise _EndedElsewhereError
    deleted = purge(dest) if intent.purge else []
    journal = Journal(dest)
    if FOLDER not in journal.names():
        # An append under way writes, too, and removes them at its end.
        journal.remove_temporaries()
    if read_intent(dest) == intent:
        drop_intent(dest)
    return deleted


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

        def check() -> None:
            # A shard of a change that has ended may have been changed since: it must not come back.
            if read_intent(dest) != intent:
                raise _EndedElsewhereError

        def one(change: ShardChange) -> None:
            made[change.old] = rewrite(dest, entries[change.old], change, scratch, check)
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
