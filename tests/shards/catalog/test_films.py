"""Remote videos of which several clips are cut are fetched once for those that are near."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pal_ds import storage
from shards.catalog.films import Films
from tests.shards.conftest import Run
from tests.support.clips import make_video
from tests.support.header_keeper import HeaderKeeper
from tests.support.shard_files import records_of


def test_a_film_is_fetched_once_for_all_who_want_it_at_a_time(tmp_path: Path) -> None:
    films, fetched = Films(tmp_path), []
    together = threading.Barrier(4)

    def fetch(path: Path) -> None:
        fetched.append(path)
        path.write_bytes(b"film")

    def use(_: int) -> bytes:
        together.wait()
        with films.open("a", fetch) as path:
            return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(4))) == [b"film"] * 4
    assert len(fetched) == 1


def test_what_nobody_uses_stays_within_the_limit_oldest_first(tmp_path: Path) -> None:
    films = Films(tmp_path, 250)
    with films.open("held", lambda path: path.write_bytes(b"x" * 300)) as held:
        for name in "abc":
            with films.open(name, lambda path: path.write_bytes(b"x" * 100)):
                pass
        assert held.exists()
    asked: list[str] = []
    for name in ("c", "a"):
        with films.open(name, lambda path, name=name: asked.append(name) or path.write_bytes(b"y")):
            pass
    assert "a" in asked
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 250


def test_a_failed_fetch_leaves_nothing_and_a_full_disk_makes_room(tmp_path: Path) -> None:
    films = Films(tmp_path)

    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"), films.open("a", broken):
        pass
    assert list(tmp_path.iterdir()) == []
    with films.open("kept", lambda path: path.write_bytes(b"x")):
        pass

    def full(path: Path) -> None:
        if any(tmp_path.iterdir()):
            raise OSError(errno.ENOSPC, "full")
        path.write_bytes(b"fits now")

    with films.open("b", full) as path:
        assert path.read_bytes() == b"fits now"


@pytest.mark.slow
def test_pieces_of_a_remote_film_are_cut_from_two_fetches(s3_server, tmp_path: Path, pal_shard: Run) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=6)
    url = s3_server.bucket("films")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.env.items():
            patch.setenv(name, value)
        storage.upload_file(film, f"{url}/source/film.mp4")
    with HeaderKeeper(s3_server.port) as store:
        environment = {**s3_server.env, "AWS_ENDPOINT_URL": store.url}
        done = pal_shard("build", f"{url}/source", tmp_path / "out", "--chunk", 1, env=environment)
        assert done.returncode == 0, done.stderr
        reads = [head for head in store.heads if head.startswith(b"get /films/source/film.mp4")]
    assert len(records_of(tmp_path / "out")) == 6
    assert len(reads) == 2
    assert list((tmp_path / "scratch").iterdir()) == []
