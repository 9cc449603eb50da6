"""kill -9 of append, remove and compact: the old generation or the new, and a rerun ends in the bytes it should.

Six kills each, 20 with ``PAL_TEST_FULL=1``, half of them before the moment of change and half after it;
``PAL_TEST_KILLS=200`` makes the loops longer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.full import FULL
from tests.support.reading_sets import clips_of

KILLS = os.environ.get("PAL_TEST_KILLS", "20" if FULL else "6")
ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow


def kill_loop(source: Path, folder: Path, *words: str) -> dict[str, float]:
    """Run the loop and return what it counted."""
    folder.mkdir()
    command = [sys.executable, "tests/support/kill_loop.py", str(source), str(folder), KILLS, "3", *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(words[0], found)
    return found


def test_append_killed_anywhere(corpus: Path, dest: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for path in sorted(corpus.rglob("*.mp4"))[-2:]:
        shutil.copy(path, more)
    words = ("append", str(more), "DEST", "--shard-bytes", "60KB", "--quiet", "--workers", "2")
    found = kill_loop(dest, tmp_path / "loop", *words)
    assert found["kills"] == found["old"] + found["new"] == int(KILLS)
    # Of kills at any time nobody knows what they leave.
    assert min(found["old"], found["new"]) >= int(KILLS) // (2 if int(KILLS) <= 20 else 4)


@pytest.mark.parametrize("how", [("--now",), ("--purge",)], ids=["now", "purge"])
def test_remove_killed_anywhere(how: tuple[str, ...], dest: Path, tmp_path: Path) -> None:
    clips = sorted(clips_of(dest))
    (tmp_path / "keys").write_text("\n".join(clips[:3]))
    words = ("remove", "DEST", "--keys", str(tmp_path / "keys"), *how, "--quiet")
    found = kill_loop(dest, tmp_path / "loop", *words)
    assert found["kills"] == found["old"] + found["new"] == int(KILLS)
    # Of kills at any time nobody knows what they leave.
    assert min(found["old"], found["new"]) >= int(KILLS) // (2 if int(KILLS) <= 20 else 4)
