"""A small finished set, and more videos to append to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shards.cli import main as pal_shard


@pytest.fixture(scope="session")
def grown_from(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``few``: eight of the corpus' twelve videos; ``set``: a set of them, packed as they are, two a shard."""
    folder = tmp_path_factory.mktemp("grown")
    for path in sorted(corpus.rglob("*.mp4"))[:8]:
        target = folder / "few" / path.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    arguments = ["build", str(folder / "few"), str(folder / "set"), "--copy", "--shard-bytes", "120KB"]
    assert pal_shard([*arguments, "--quiet"]) == 0
    return folder


@pytest.fixture
def dest(grown_from: Path, tmp_path: Path) -> Path:
    """A copy of the set that a test may change."""
    return Path(shutil.copytree(grown_from / "set", tmp_path / "set"))
