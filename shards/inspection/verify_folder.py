"""What lies in a set's folder: the files of all its generations, what is under way, and what is left over."""

from __future__ import annotations

from collections.abc import Iterator

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_files import (
    INTENT_NAME,
    REMOVALS_NAME,
    ShardSetError,
    history_name,
    index_name,
    rejects_name,
)
from pal_ds.formats.shardset import Manifest

from ..builder.finish import read_rejects
from ..builder.journal import FOLDER, Journal
from ..lifecycle.audit import read_removals
from ..lifecycle.generations import Lineage, all_generations


def check_folder(dest: str, manifest: Manifest) -> tuple[list[str], list[str]]:
    """Compare a folder with what the generations of its set say.

    Returns:
        Problems, and notes on what does no harm; one line each.

    Raises:
        StorageError: it can't be read.
    """
    journal = Journal(dest)
    names = set(journal.names())
    foreign = journal.foreign()
    notes = [f"{name}: is no part of the set, left alone" for name in foreign]
    expected = {shardset.MANIFEST_NAME, shardset.REJECTS_NAME, manifest.rejects_file, REMOVALS_NAME}
    for entry in manifest.shards():
        expected |= {index_name(entry.name), *([] if entry.is_adopted else [entry.url or entry.name])}
    problems = list(_under_way(names))
    expected |= {INTENT_NAME, FOLDER}
    try:
        lineage = Lineage.of(dest, manifest)
        expected |= {history_name(each.generation) for each in all_generations(dest, manifest)[1:]}
        expected |= {history_name(manifest.generation)}  # written before a change that was interrupted
        expected |= {rejects_name(number) for number in range(1, manifest.generation + 1)}
        expected |= {index_name(name) for name in lineage.older}
        old_tars = lineage.own_tars(lineage.older.values()) - lineage.own_tars(lineage.newest.values())
        expected |= old_tars
        if old_tars & names:
            notes.append(
                f"{len(old_tars & names)} tars of older generations are still there: pal-shard compact deletes them"
            )
        problems += _check_removals(dest, manifest, lineage)
    except ShardSetError as error:
        problems.append(str(error))
    # Only what is named like a part of a set can be taken for one.
    unexpected = names - expected - set(foreign)
    if FOLDER not in names and INTENT_NAME not in names:
        hint = "is no part of the set (pal-shard clean --unfinished removes it)"
        problems += [f"{name}: {hint}" for name in sorted(unexpected)]
    return problems + _check_rejects(dest, manifest), notes


def _under_way(names: set[str]) -> Iterator[str]:
    if FOLDER in names:
        yield f"{FOLDER}: an append is under way or was interrupted: run it again, or pal-shard clean --unfinished"
    if INTENT_NAME in names:
        yield f"{INTENT_NAME}: a removal was interrupted: run it again, or pal-shard compact"


def _check_removals(dest: str, manifest: Manifest, lineage: Lineage) -> Iterator[str]:
    """Look for clips that were taken down and are still listed somewhere."""
    removed = read_removals(dest)
    if len(removed) != manifest.removed:
        yield f"{REMOVALS_NAME}: {len(removed)} lines, the manifest says {manifest.removed} were removed"
    for name in (*lineage.newest, *sorted(lineage.older)) if removed else ():
        try:
            index = shardset.load_index(dest, name)
        except storage.StorageNotFoundError:
            yield f"missing: {index_name(name)}"
            continue
        still = [sample.key for sample in index.samples if sample.key in removed and not sample.is_removed]
        if still:
            yield f"{index_name(name)}: still lists {len(still)} clips that were taken down, first {still[0]}"
        gone = {sample.key for sample in index.samples if sample.is_removed} - removed.keys()
        if gone:
            yield f"{index_name(name)}: {len(gone)} clips are marked as removed without a line in {REMOVALS_NAME}"


def _check_rejects(dest: str, manifest: Manifest) -> list[str]:
    try:
        rejects = list(read_rejects(dest, manifest))
    except storage.StorageNotFoundError:
        return [f"{manifest.rejects_file}: missing"]
    except ShardSetError as error:
        return [str(error)]
    if len(rejects) != manifest.rejected:
        return [f"{manifest.rejects_file}: {len(rejects)} lines, the manifest says {manifest.rejected}"]
    return []
