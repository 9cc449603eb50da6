"""A bucket that is full, on a real server without room: two ranks go on with a warning, until patience ends.

It takes minutes, as the server looks for room once a minute: run with ``PAL_TEST_FULL=1``. A full local disk is
tested in every run.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import s3fs

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.formats import checkpoint
from pal_ds.storage import RetryPolicy
from tests.support.full import FULL
from tests.support.launching import ROOT, Launcher, fill, wait_for, words

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FULL, reason="takes minutes: set PAL_TEST_FULL=1"),
]
QUICK = RetryPolicy(budget_seconds=10.0)


@pytest.fixture
def small_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server whose volumes lie on a file system of 64 MB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here (needs root)")
    try:
        with S3Server(folder) as server:
            for name, value in server.env.items():
                monkeypatch.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()  # it may hold a client of another test's server
            yield server
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_bucket_is_borne_for_a_while(
    tiny_set: Path, launcher: Launcher, tmp_path: Path, small_server: S3Server
) -> None:
    bucket = small_server.bucket("full")
    run, filler, err = storage.join(bucket, "run"), small_server.folder / "filler", tmp_path / "stderr"
    for path in tiny_set.iterdir():
        storage.upload_file(path, storage.join(bucket, "set", path.name))
    options = [
        "run.max_steps=1000000",
        "validation.every_steps=0",
        "checkpoint.asynchronous=true",
        "checkpoint.keep_last=2",
        "checkpoint.every_steps=20",
        "checkpoint.save_patience_minutes=3",
        "log.upload_seconds=2",
    ]

    def newest() -> int:
        return max(checkpoint.committed_steps(run, retry=QUICK), default=0)

    def wait_running(condition: Callable[[], bool]) -> None:
        def happened() -> bool:
            assert process.poll() is None, err.read_text()[-3000:]
            return condition()

        wait_for(happened)

    with err.open("w") as file:
        process = subprocess.Popen(
            launcher.command(
                2,
                words(storage.join(bucket, "set"), run, *options),
                script="tests/support/pretrain_hasty.py",
            ),
            env=launcher.environment(),
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd=ROOT,
        )
    family: list[psutil.Process] = []
    try:
        wait_running(lambda: newest() > 0)
        family = psutil.Process(process.pid).children(recursive=True)
        fill(filler)
        wait_running(lambda: "not saved" in err.read_text() and "training goes on" in err.read_text())
        before = newest()
        for step in checkpoint.committed_steps(run):
            assert checkpoint.load(run, step).step == step
        filler.unlink()
        wait_running(lambda: newest() > before)
        fill(filler)
        assert process.wait(600) == 1
    finally:
        process.kill()
    text = err.read_text()
    last = newest()
    assert "no checkpoint could be saved for too long" in text
    assert f"the last committed step is {last}" in text
    assert "Traceback" not in text
    _, alive = psutil.wait_procs(family, timeout=60)
    assert [other for other in alive if other.is_running()] == []
    assert checkpoint.load(run, last).step == last
    filler.unlink()
    again = words(storage.join(bucket, "set"), run, "validation.every_steps=0", f"run.max_steps={last + 2}")
    done = launcher.run_ranks(2, again)
    for _ in range(4):  # the server looks for room once a minute; until then a start ends with one line
        if done.returncode == 0:
            break
        assert "error: s3://full/run" in done.stderr
        done = launcher.run_ranks(2, again)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resuming at step {last}" in done.stderr
    status = storage.read_bytes(storage.join(run, "STATUS.json"))
    assert json.loads(status) == {"state": "done", "step": last + 2}
    rows = storage.read_bytes(storage.join(run, "metrics.jsonl")).splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, last + 3))
