"""Fixtures of the sharder's tests: small real videos, and the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
