"""A place that is full: training goes on with a warning, what is committed stays, and patience ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pal_ds.formats import checkpoint
from tests.support.launching import Launcher, fill, wait_for, words

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few tiny checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_borne_for_a_while(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, small_disk: Path
) -> None:
    run, filler, err = small_disk / "run", small_disk / "filler", tmp_path / "stderr"
    options = [
        "run.max_steps=1000000",
        "validation.every_steps=0",
        "checkpoint.asynchronous=true",
        "checkpoint.keep_last=2",
        "checkpoint.save_patience_minutes=0.15",
    ]
    with err.open("w") as file:
        process = subprocess.Popen(
            launcher.command(0, words(tiny_set, run, *options)), env=launcher.environment(), stderr=file
        )
    try:
        wait_for(lambda: bool(checkpoint.committed_steps(str(run))))
        fill(filler)
        wait_for(lambda: "training goes on" in err.read_text() and "not saved" in err.read_text())
        before = checkpoint.committed_steps(str(run))
        for step in before:
            assert checkpoint.load(str(run), step).step == step
        filler.unlink()
        wait_for(lambda: max(checkpoint.committed_steps(str(run))) > max(before))
        fill(filler)
        assert process.wait(120) == 1
    finally:
        process.kill()
    text = err.read_text()
    assert "no checkpoint could be saved for too long" in text
    assert "Traceback" not in text
    last = max(checkpoint.committed_steps(str(run)))
    assert f"the last committed step is {last}" in text
    assert checkpoint.load(str(run), last).step == last
    filler.unlink()
    done = launcher.run_ranks(
        0, words(tiny_set, run, "validation.every_steps=0", f"run.max_steps={last + 2}")
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((run / "STATUS.json").read_text()) == {"state": "done", "step": last + 2}
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, last + 3))
