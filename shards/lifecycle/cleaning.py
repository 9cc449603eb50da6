"""``pal-shard clean``: removes what interrupted work left behind."""

from __future__ import annotations

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_files import INTENT_NAME, SHARD_NAME, history_name, index_name, rejects_name

from ..builder import journal as builds
from ..builder.comparing import begun_append
from ..builder.journal import Journal
from ..errors import UsageError
from .generations import Lineage


def clean(dest: str, *, unfinished: bool) -> list[str]:
    """Remove what interrupted builds and appends left at DEST; returns the names.

    Args:
        dest: the shard set's folder.
        unfinished: give up what was begun: a build that has no manifest yet, or an append, with its shards.

    Raises:
        UsageError: something was begun and ``unfinished`` was not given, or clips are being taken down.
        StorageError: the store refuses or fails.
    """
    journal = Journal(dest)
    names = journal.names()
    if shardset.MANIFEST_NAME not in names:
        return builds.clean(dest, unfinished=unfinished)
    where = f"DEST {storage.redact(dest)}"
    if INTENT_NAME in names:
        raise UsageError(f"{where}: clips are being taken down: run pal-shard remove again, or compact")
    manifest = shardset.load_manifest(dest)
    if begun_append(journal, manifest) is not None and not unfinished:
        raise UsageError(
            f"{where}: an append is not finished: run it again, or give --unfinished to give it up"
        )
    removed = builds.clean(dest, unfinished=False)
    if unfinished:
        lineage = Lineage.of(dest, manifest)
        known = {*lineage.newest, *lineage.older}
        known |= lineage.own_tars([*lineage.newest.values(), *lineage.older.values()])
        known |= {index_name(name) for name in known}
        # What a change that was interrupted had written for the generation it did not come to.
        following = {rejects_name(manifest.generation + 1), history_name(manifest.generation)}
        for name in journal.names():
            is_shard = SHARD_NAME.fullmatch(name.replace(".index.json", ".tar")) is not None
            if (is_shard or name in following) and name not in known:
                storage.remove(storage.join(dest, name))
                removed.append(name)
    return sorted(removed)
