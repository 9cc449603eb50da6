"""The order of a generation stays what it was when clips are taken down: only they are replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pal_ds.formats import shardset
from shards.cli import main as pal_shard
from tests.support.loading import global_batches, loader_of

STEPS = 6


@pytest.fixture
def url(shard_url: str, tmp_path: Path) -> Iterator[str]:
    """A copy of the set, pinned to its first generation."""
    copy = str(shutil.copytree(shard_url, tmp_path / "set"))
    (tmp_path / "set" / "rejects.jsonl").touch()
    shardset.pin(copy, shardset.load_manifest(copy).digest)
    yield copy
    shardset.unpin(copy)


def take_down(url: str, keys: list[str], *how: str) -> None:
    path = Path(url).parent / "keys"
    path.write_text("\n".join(keys))
    pinned = shardset.load_manifest(url).digest
    shardset.unpin(url)  # the command is another process
    assert pal_shard(["remove", url, "--keys", str(path), *how, "--quiet"]) == 0
    shardset.pin(url, pinned)


def replaced_groups(url: str, steps: int) -> tuple[set[tuple[int, int]], set[str]]:
    """Places of the groups in which a clip was replaced, and the clips."""
    loader = loader_of(url)
    groups, keys = set(), set()
    for step in range(steps):
        batch = next(loader)
        for row in batch.replaced:
            keys.add(row["key"])
            groups |= {
                (step, place) for place, group in enumerate(batch.groups) if row["replacement"] in group.keys
            }
            assert "was taken down" in row["error"]
    loader.close()
    return groups, keys


@pytest.mark.parametrize("how", [(), ("--now",), ("--purge",)])
def test_all_groups_without_a_removed_clip_stay_the_same(url: str, how: tuple[str, ...]) -> None:
    before = global_batches(url, STEPS)
    keys = [shardset.load_index(url, f"train-{number:06d}.tar").samples[1].key for number in (0, 2)]
    take_down(url, keys, *how)
    after = global_batches(url, STEPS)
    touched, seen = replaced_groups(url, STEPS)
    assert touched and seen <= set(keys)
    differing = {
        (step, place)
        for step in range(STEPS)
        for place, (one, two) in enumerate(zip(before[step][0], after[step][0], strict=True))
        if one != two
    }
    assert differing == touched
    assert global_batches(url, STEPS - 2, start=2, world_size=2, workers=1, start_method="fork") == after[2:]


def test_a_running_loader_outlives_a_purge(url: str) -> None:
    """Its index names a tar that is gone: it reads the index again."""
    settings = {"worker_memory_mb": 1, "read_threads": 1, "lanes": 1}
    loader = loader_of(url, **settings)
    next(loader)
    keys = [shardset.load_index(url, f"train-{number:06d}.tar").samples[0].key for number in (0, 2)]
    take_down(url, keys, "--purge")
    assert not (Path(url) / "train-000000.tar").exists()
    for _ in range(8):
        next(loader)
    loader.close()


def test_the_newest_generation_is_read_where_none_is_pinned(url: str) -> None:
    take_down(url, [shardset.load_index(url, "train-000000.tar").samples[0].key], "--now")
    assert loader_of(url).manifest.generation == 1
    shardset.unpin(url)
    loader = loader_of(url)
    assert loader.manifest.generation == 2
    keys = {key for _ in range(8) for group in next(loader).groups for key in group.keys}
    loader.close()
    removed = json.loads((Path(url) / "removals.jsonl").read_text())["key"]
    assert removed not in keys
