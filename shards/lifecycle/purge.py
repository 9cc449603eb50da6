"""Deletes the tars that only older generations name, after pointing their indexes at what took their place."""

from __future__ import annotations

import dataclasses

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shard_index import ShardIndex, taken_down

from .generations import Lineage


def purge(dest: str) -> list[str]:
    """Delete a set's own tars that its newest generation does not name; returns their names.

    Runs on older generations go on: their indexes come to say where the same clips lie now, each at its old place,
    before a tar is deleted.

    Raises:
        ShardSetError: the set can't be understood.
        StorageError: DEST can't be read or written.
    """
    lineage = Lineage.of(dest, shardset.load_manifest(dest))
    dead = lineage.own_tars(lineage.older.values()) - lineage.own_tars(lineage.newest.values())
    dead &= set(storage.list_names(dest))
    for name in sorted(lineage.older) if dead else ():
        index = shardset.load_index(dest, name)
        if (index.url or index.shard) in dead:
            data = _redirected(dest, index, lineage.successor(name)).to_json()
            storage.write_bytes(storage.join(dest, shardset.index_name(name)), data)
    for name in sorted(dead):
        storage.remove(storage.join(dest, name))
    return sorted(dead)


def _redirected(dest: str, index: ShardIndex, successor: str | None) -> ShardIndex:
    """Return an old index with the places of its clips in the newest shard that holds them."""
    if successor is None:
        return dataclasses.replace(index, samples=tuple(taken_down(sample.key) for sample in index.samples))
    newest = shardset.load_index(dest, successor)
    places = {sample.key: sample for sample in newest.samples}
    return dataclasses.replace(
        index,
        samples=tuple(places.get(sample.key, taken_down(sample.key)) for sample in index.samples),
        url=newest.url or newest.shard,
        tar_bytes=newest.tar_bytes,
    )
