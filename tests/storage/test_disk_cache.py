"""The cache of a host: bounded at every moment, safe under kill -9, right or empty-handed."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pal_ds.storage.disk_cache import ADMITTED, IDLE_SECONDS, DiskCache

MB = 1 << 20
#: What the database and its log may take beside the pieces.
BOOKS = 12 * MB


def name_of(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def piece_of(number: int, length: int = 100_000) -> bytes:
    return random.Random(number).randbytes(length)


def bytes_on_disk(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() and "sqlite" not in path.name else 0
        except FileNotFoundError:
            continue
    return total


class Clock:
    def __init__(self, step: float = 1.0) -> None:
        self.now = 1e9
        self._step = step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


def test_what_was_put_is_found_by_every_process_and_nothing_else_is(tmp_path) -> None:
    first, second = DiskCache(tmp_path / "cache", MB), DiskCache(tmp_path / "cache", MB)
    first.put(name_of(1), piece_of(1))
    assert second.get(name_of(1)) == piece_of(1)
    assert second.get(name_of(2)) is None


def test_a_damaged_piece_is_none_and_is_filled_again(tmp_path) -> None:
    cache = DiskCache(tmp_path, MB)
    cache.put(name_of(1), piece_of(1))
    (path,) = tmp_path.glob("*/*")
    for damaged in (path.read_bytes()[:-1], b"", path.read_bytes()[:50] + b"x" + path.read_bytes()[51:]):
        path.write_bytes(damaged)
        assert cache.get(name_of(1)) is None
        cache.put(name_of(1), piece_of(1))
        assert cache.get(name_of(1)) == piece_of(1)


def test_a_mapped_piece_is_the_piece_unchecked_and_a_dropped_one_is_filled_again(tmp_path) -> None:
    cache = DiskCache(tmp_path, MB)
    assert cache.mapped(name_of(1)) is None
    cache.put(name_of(1), piece_of(1))
    held = cache.mapped(name_of(1))
    assert held is not None
    assert bytes(held) == piece_of(1)
    cache.drop(name_of(1))
    assert cache.mapped(name_of(1)) is None
    cache.put(name_of(1), piece_of(1))
    assert cache.get(name_of(1)) == piece_of(1)


def test_a_piece_is_made_only_where_it_has_a_place(tmp_path) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return piece_of(1)

    cache = DiskCache(tmp_path, 150_000)
    assert cache.fill(name_of(1), 100_000, make) == piece_of(1)
    assert cache.fill(name_of(1), 100_000, make) is None
    assert cache.fill(name_of(2), 200_000, make) is None
    assert len(made) == 1


def test_what_fails_while_it_is_made_takes_no_place(tmp_path) -> None:
    def fails() -> bytes:
        raise ValueError("no such thing")

    cache = DiskCache(tmp_path, 150_000)
    with pytest.raises(ValueError, match="no such thing"):
        cache.fill(name_of(1), 100_000, fails)
    cache.put(name_of(2), piece_of(2))
    assert cache.get(name_of(2)) == piece_of(2)


def test_idle_pieces_make_room_oldest_first(tmp_path) -> None:
    clock = Clock()
    cache = DiskCache(tmp_path, 3 * 110_000, clock=clock)
    for number in range(3):
        cache.put(name_of(number), piece_of(number))
    clock.now += IDLE_SECONDS
    assert cache.get(name_of(0)) is not None
    cache.close()
    cache = DiskCache(tmp_path, 3 * 110_000, clock=clock)
    cache.put(name_of(3), piece_of(3))
    held = [number for number in range(4) if cache.get(name_of(number)) is not None]
    assert held == [0, 2, 3]


def test_of_pieces_in_use_only_some_are_replaced(tmp_path) -> None:
    cache = DiskCache(tmp_path, 20 * 110_000, clock=Clock(0.5))
    for number in range(400):
        cache.put(name_of(number), piece_of(number))
        cache.get(name_of(number))
    kept = [number for number in range(400) if cache.get(name_of(number)) is not None]
    assert len(kept) == 21
    replaced = sum(number > 20 for number in kept)
    assert replaced > 0
    taken = 0
    for number in range(400, 480):
        cache.put(name_of(number), piece_of(number))
        taken += cache.get(name_of(number)) is not None
    assert 0 < taken <= 3 * 80 / ADMITTED


def test_a_smaller_limit_is_met_at_once(tmp_path) -> None:
    cache = DiskCache(tmp_path, MB)
    for number in range(9):
        cache.put(name_of(number), piece_of(number))
    cache.close()
    DiskCache(tmp_path, 300_000).close()
    assert 0 < bytes_on_disk(tmp_path) <= 300_000


def test_a_full_disk_is_a_warning_and_what_is_there_is_still_read(tmp_path, caplog) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    cache = DiskCache(tmp_path, MB)
    cache.put(name_of(1), piece_of(1))
    full = tmp_path / name_of(2)[:2] / f"{name_of(2)}.tmp"
    full.parent.mkdir(exist_ok=True)
    full.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        cache.put(name_of(2), piece_of(2))
        cache.put(name_of(3), piece_of(3))
    assert [record.message.count("No space left") for record in caplog.records] == [1]
    assert not cache.keeps
    assert cache.get(name_of(1)) == piece_of(1)
    assert cache.get(name_of(2)) is None


def test_a_folder_that_can_not_be_made_is_a_warning(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        cache = DiskCache(tmp_path / "file" / "cache", MB)
    cache.put(name_of(1), piece_of(1))
    assert cache.get(name_of(1)) is None
    assert "reads go on from the store" in caplog.text
    cache.close()


def test_a_piece_whose_writer_died_is_given_up_after_a_while(tmp_path) -> None:
    clock = Clock()
    cache = DiskCache(tmp_path, 110_000, clock=clock)
    assert cache._enter(name_of(1), cache._path(name_of(1)), 100_000)
    cache.put(name_of(1), piece_of(1))
    cache.put(name_of(2), piece_of(2))
    assert cache.get(name_of(1)) is cache.get(name_of(2)) is None
    clock.now += IDLE_SECONDS
    cache.put(name_of(2), piece_of(2))
    assert cache.get(name_of(2)) == piece_of(2)


_WRITER = """
import random, sys, time
from pathlib import Path
from pal_ds.storage.disk_cache import DiskCache
from tests.storage.test_disk_cache import name_of, piece_of
cache = DiskCache(Path(sys.argv[1]), int(sys.argv[2]))
dice = random.Random(int(sys.argv[3]))
print("ready", flush=True)
while cache.keeps:
    number = dice.randrange(120)
    found = cache.get(name_of(number))
    assert found is None or found == piece_of(number)
    if found is None:
        cache.put(name_of(number), piece_of(number))
"""


@pytest.mark.slow
def test_killed_writers_leave_a_cache_that_is_right_and_within_its_limit(tmp_path) -> None:
    limit = 4 * MB
    moments, kills = random.Random(7), 0
    while kills < 20:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(tmp_path), str(limit), str(kills + place)],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).resolve().parents[2],
            )
            for place in (0, 1)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            time.sleep(moments.uniform(0.005, 0.08))
            assert bytes_on_disk(tmp_path) <= limit
            assert writer.poll() is None
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
            kills += 1
        assert bytes_on_disk(tmp_path) <= limit
    cache = DiskCache(tmp_path, limit)
    found = {number: cache.get(name_of(number)) for number in range(120)}
    held = {number: piece for number, piece in found.items() if piece is not None}
    assert len(held) > 10
    assert all(piece == piece_of(number) for number, piece in held.items())
    assert sum(path.stat().st_size for path in tmp_path.glob("cache.sqlite*")) <= BOOKS
    assert cache.keeps
