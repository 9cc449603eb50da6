"""kill -9 at random moments of saving to a real S3 server through a proxy that breaks connections.

``PAL_TEST_KILLS=20`` kills so many times (the default is made for every run of the tests), and as a fifth of them
kills the real launcher's first rank.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.config import CheckpointConfig
from pal_ds.formats import checkpoint
from pal_ds.training.checkpoint.background_saver import Saver
from tests.support.fault_proxy import FaultProxy
from tests.support.launching import Launcher, ranks_of, words
from tests.support.saving_process import KEEP_LAST, save_for_ever, snapshot_of

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("PAL_TEST_KILLS", "3"))


@pytest.fixture
def faulty(s3_env: S3Server) -> Iterator[FaultProxy]:
    """A proxy before the server that drops a tenth of the requests, at any of three points."""
    proxy = FaultProxy(s3_env.port, share=0.1, seed=11)
    yield proxy
    proxy.close()


def assert_sound(run: str, newest_before: int) -> int:
    """Check that what is committed loads and is what was saved; return the newest step."""
    committed = checkpoint.committed_steps(run)
    newest = max(committed, default=0)
    assert newest >= newest_before, "the last good checkpoint is gone"
    for step in committed:
        loaded, expected = checkpoint.load(run, step), snapshot_of(step)
        for part in ("model", "optimizer"):
            for name, tensor in getattr(expected, part).items():
                assert torch.equal(getattr(loaded, part)[name], tensor), (step, name)
        assert loaded.state["schedule"] == expected.state["schedule"]
    return newest


def objects(run: str, step: int) -> list[str]:
    """Names of a checkpoint's objects."""
    return storage.list_names(storage.join(run, "checkpoints", checkpoint.checkpoint_name(step)))


def test_the_newest_committed_checkpoint_survives_kills(
    s3_env: S3Server, faulty: FaultProxy, tmp_path: Path
) -> None:
    run = storage.join(s3_env.bucket("kills"), tmp_path.name)
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["tests.support.saving_process", "pal_ds.data.workers.worker_process"])
    # The fork server keeps the environment of its start, which may lie before this test's S3 server.
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    environment["AWS_ENDPOINT_URL"] = faulty.url
    dice = random.Random(7)
    newest, cut_short = 0, 0
    for number in range(KILLS):
        seen = faulty.requests
        # A save and the removal of the oldest are about twenty requests: any of three saves is hit at any of them.
        target = seen + dice.randint(8, 60)
        # Every other kill waits for the first object of a checkpoint, so that it falls into its middle.
        half = newest + dice.randint(1, 2)
        while objects(run, half):  # left by an earlier kill
            half += 1
        process = forkserver.Process(target=save_for_ever, args=(run, newest + 1, environment))
        process.start()
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if objects(run, half) if number % 2 else faulty.requests >= target:
                break
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.05))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert faulty.requests > seen
        newest = assert_sound(run, newest)
        cut_short += bool(objects(run, newest + 1))
    assert faulty.dropped > 0
    assert newest > 0
    # Saving the same step again works where its folder is half written, and where it is committed.
    for step in (newest, newest + 1):
        checkpoint.save(run, snapshot_of(step))
        assert assert_sound(run, newest) == step
    # What kills between a commit and the removal of the oldest left over goes with the next save.
    saver = Saver(run, CheckpointConfig(keep_last=KEEP_LAST), lambda step, size, seconds: None)
    saver.finish(snapshot_of(newest + 2))
    assert checkpoint.committed_steps(run) == [newest + 1, newest + 2]
    # Folders without objects are the server's own; it removes them in time.
    left = {info.relative.split("/")[0] for info in storage.iter_files(storage.join(run, "checkpoints"))}
    assert left == {checkpoint.checkpoint_name(newest + 1), checkpoint.checkpoint_name(newest + 2)}
    print(f"{KILLS} kills, {cut_short} of them in the middle of a checkpoint; newest is step {newest}")
    print(f"{faulty.dropped} of {faulty.requests} requests were dropped")


@pytest.mark.skipif(KILLS < 20, reason="set PAL_TEST_KILLS=20 for kills through the launcher")
def test_a_killed_launch_resumes_from_the_newest_commit(
    s3_env: S3Server, faulty: FaultProxy, tiny_set: Path, launcher: Launcher, tmp_path: Path
) -> None:
    run = storage.join(s3_env.bucket("kills"), tmp_path.name, "launched")
    options = words(
        tiny_set,
        run,
        "run.max_steps=100000",
        "validation.every_steps=0",
        "checkpoint.every_steps=1",
        "checkpoint.asynchronous=true",
    )
    dice = random.Random(3)
    newest = 0
    for _ in range(KILLS // 5):
        process = launcher.start(2, options, AWS_ENDPOINT_URL=faulty.url)
        end = time.monotonic() + 120
        while (found := max(checkpoint.committed_steps(run), default=0)) <= newest and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(dice.uniform(0, 1.0))
        os.kill(ranks_of(psutil.Process(process.pid))[0].pid, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert found > newest, err[-3000:]
        if newest:
            assert f"resuming at step {newest}" in err
        newest = max(checkpoint.committed_steps(run))
        assert newest >= found
        assert checkpoint.load(run, newest).step == newest
        rows = storage.read_bytes(storage.join(run, "metrics.jsonl")).splitlines()
        steps = [json.loads(row)["step"] for row in rows]
        assert steps == sorted(set(steps))
