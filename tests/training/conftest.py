"""A small real shard set and the real launcher, for the tests of the training room."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.launching import Launcher, make_set

# The proxy that breaks connections to the S3 server is the sharder's tests'.
sys.path.append(str(Path(__file__).resolve().parents[1] / "shards"))


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 34 training and 6 validation clips, encoded by ffmpeg and packed by pal-shard."""
    return make_set(tmp_path_factory.mktemp("tiny-set"), clips=40)


@pytest.fixture(scope="session")
def launcher() -> Launcher:
    """The launcher."""
    return Launcher()
