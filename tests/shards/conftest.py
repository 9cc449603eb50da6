"""Fixtures of the sharder's tests: small real videos, and the command in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.cli import main as shard_command
from tests.support.clips import make_folder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve one-second videos in two class folders."""
    return make_folder(tmp_path_factory.mktemp("corpus"), 12)


@pytest.fixture
def pal_shard(tmp_path: Path) -> Run:
    """Run ``pal-shard`` as users do; returns the finished process."""

    def run(
        *arguments: object, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "shards.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(scratch), **(env or {})},
            **options,
        )

    return run


@pytest.fixture(scope="session")
def grown_from(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``few``: eight of the corpus' twelve videos; ``set``: a set of them, packed as they are, two a shard."""
    folder = tmp_path_factory.mktemp("grown")
    for path in sorted(corpus.rglob("*.mp4"))[:8]:
        target = folder / "few" / path.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    arguments = ["build", str(folder / "few"), str(folder / "set"), "--copy", "--shard-bytes", "120KB"]
    assert shard_command([*arguments, "--quiet"]) == 0
    return folder


@pytest.fixture
def dest(grown_from: Path, tmp_path: Path) -> Path:
    """A copy of the set that a test may change."""
    return Path(shutil.copytree(grown_from / "set", tmp_path / "set"))
