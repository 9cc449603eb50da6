"""Fixtures that all tests share: a real S3 server, a small real shard set, the launcher."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from launch.demo.s3_server import S3Server
from tests.support.launching import Launcher, make_set
from tests.support.shared_folder import shared_folder

# Before torch is imported, and inherited by what a test starts: ranks, workers and commands side by side, each with a
# thread for every core, spend most of their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server on loopback for the whole session; `.env`, `.read_only_env`, `.bucket(name)`."""
    with S3Server(Path(tmp_path_factory.mktemp("s3-server"))) as server:
        yield server


@pytest.fixture
def s3_env(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with this process's AWS variables pointing at it."""
    import s3fs

    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    return s3_server


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 34 training and 6 validation clips, encoded by ffmpeg and packed by pal-shard."""
    return shared_folder(tmp_path_factory, "tiny-set", partial(make_set, clips=40)) / "set"


@pytest.fixture(scope="session")
def launcher() -> Launcher:
    """The launcher."""
    return Launcher()
