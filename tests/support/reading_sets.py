"""Reads every clip of a shard set as training does: through index and tar, with its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest
from pal_ds.formats.tar_samples import sample_in


def clips_of(url: str | Path, manifest: Manifest | None = None) -> dict[str, str]:
    """Return the SHA-256 of every clip of a generation by key; clips taken down are left out.

    Args:
        url: the set.
        manifest: of the generation; None for the newest.
    """
    found: dict[str, str] = {}
    for entry in (manifest or shardset.load_manifest(str(url))).shards():
        index = shardset.load_index(str(url), entry.name)
        assert len(index.samples) == entry.clips
        for sample in index.samples:
            if not sample.is_removed:
                assert sample.key not in found
                place = (sample.offset, sample.offset + sample.size)
                members = sample_in(storage.read_range(index.tar(str(url)), *place), sample)
                assert members.key == sample.key
                found[sample.key] = hashlib.sha256(members.video).hexdigest()
                assert found[sample.key] == members.record.sha256
    return found


def places_of(url: str | Path, manifest: Manifest) -> list[list[str]]:
    """Return the keys of each shard of a generation in order: what the order of an epoch is a function of."""
    return [
        [sample.key for sample in shardset.load_index(str(url), entry.name).samples]
        for entry in manifest.shards()
    ]
