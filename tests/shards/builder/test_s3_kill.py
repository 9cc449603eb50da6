"""kill -9 of builds into a bucket, also in the middle of uploads: the rerun ends in the same objects, no part stays.

The committed run is short and packs without transcoding; ``PAL_TEST_KILLS=24`` makes it the full proof.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import ffmpeg
from tests.support.fault_proxy import FaultProxy
from tests.support.shard_files import files_of, processes_mentioning

KILLS = int(os.environ.get("PAL_TEST_KILLS", "3"))
FULL = KILLS >= 20
#: Shards of some 40 MB, which go up in parts.
ENCODING = ("--short-side", "256", "--crf", "4", "--shard-bytes", "26MB")
LARGE = (*(ENCODING if FULL else ("--copy", "--shard-bytes", "40MB")), "--workers", "2", "--quiet")
VIDEOS = 6 * KILLS if FULL else 14
NOISE = "testsrc2=s=340x256:r=30:d=1,hue=h={},noise=alls=100:allf=t"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that no encoder makes small."""
    folder = tmp_path_factory.mktemp("noisy")
    for number in range(VIDEOS):
        path = folder / f"v{number:03d}.mp4"
        if number < 8:
            source = ("-f", "lavfi", "-i", NOISE.format(40 * number), "-pix_fmt", "yuv420p")
            ffmpeg(*source, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", path)
        else:
            os.link(folder / f"v{number % 8:03d}.mp4", path)
    return folder


@pytest.fixture
def bucket(s3_server: Any) -> Iterator[Any]:
    """The server with a bucket, a client to look into it, and a slow way into it."""
    import s3fs

    s3_server.bucket("shards-kill")
    s3_server.client = s3fs.S3FileSystem(
        key=s3_server.env["AWS_ACCESS_KEY_ID"],
        secret=s3_server.env["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=s3_server.url,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    proxy = FaultProxy(s3_server.port, bytes_per_second=25e6)
    s3_server.slow_env = {**s3_server.env, "AWS_ENDPOINT_URL": proxy.url}
    yield s3_server
    proxy.close()


def unfinished(store: Any) -> list[str]:
    answer = store.client.call_s3("list_multipart_uploads", Bucket="shards-kill")
    return sorted(upload["Key"] for upload in answer.get("Uploads") or ())


def build_command(noisy: Path, dest: object) -> list[str]:
    return [sys.executable, "-m", "shards.cli", "build", str(noisy), str(dest), *LARGE]


def kill_when(process: subprocess.Popen[bytes], due: Any, marker: str) -> bool:
    """Kill a build as soon as ``due()``; False where it ended before. Nothing of it may live 2 s later."""
    while not due():
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 2.0
    while processes_mentioning(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_mentioning(marker) == []
    return True


@pytest.mark.slow
def test_killed_in_work_and_in_uploads_the_rerun_leaves_the_same_objects_and_no_parts(
    bucket: Any, noisy: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    subprocess.run(build_command(noisy, whole), check=True, capture_output=True)
    scratch = tmp_path / f"scratch-{uuid.uuid4().hex}"
    scratch.mkdir()
    command = build_command(noisy, "s3://shards-kill/set")
    env = {**os.environ, **bucket.slow_env, "TMPDIR": str(scratch)}
    dice = random.Random(7)
    killed = in_uploads = 0
    while killed < KILLS:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if killed % 2 == 0:
            left = set(unfinished(bucket))
            if not kill_when(process, lambda left=left: set(unfinished(bucket)) - left, scratch.name):
                break
        else:
            due = time.monotonic() + dice.uniform(0.3, 6.0 if FULL else 2.0)
            if not kill_when(process, lambda due=due: time.monotonic() > due, scratch.name):
                break
        killed += 1
        in_uploads += bool(unfinished(bucket))
    print(f"{killed} kills, {in_uploads} of them left unfinished uploads")
    assert killed >= min(KILLS, 20)
    assert in_uploads >= 1
    env.update(bucket.env)
    assert subprocess.run(command, env=env, check=False, capture_output=True).returncode == 0
    found = {
        name.removeprefix("shards-kill/set/"): bucket.client.cat_file(name)
        for name in bucket.client.find("shards-kill/set")
    }
    assert found == files_of(whole)
    assert unfinished(bucket) == []
    assert list(scratch.iterdir()) == []


def leave_upload(store: Any, key: str) -> None:
    upload = store.client.call_s3("create_multipart_upload", Bucket="shards-kill", Key=key)["UploadId"]
    part = {"UploadId": upload, "PartNumber": 1, "Body": bytes(5 << 20)}
    store.client.call_s3("upload_part", Bucket="shards-kill", Key=key, **part)


@pytest.mark.slow
def test_clean_aborts_what_a_killed_upload_left_and_nothing_else(bucket: Any, corpus, pal_shard) -> None:
    dest = "s3://shards-kill/cleaned"
    assert pal_shard("build", corpus, dest, "--quiet", env=bucket.env).returncode == 0
    leave_upload(bucket, "cleaned/train-000000.tar")
    leave_upload(bucket, "cleaned/train-000007.tar")
    leave_upload(bucket, "cleaned-not/train-000000.tar")
    leave_upload(bucket, "cleaned/somebody.zip")
    done = pal_shard("clean", dest, "--json", env=bucket.env)
    assert json.loads(done.stdout)["removed"] == [
        f"train-00000{number}.tar (unfinished upload)" for number in (0, 7)
    ]
    assert unfinished(bucket) == ["cleaned-not/train-000000.tar", "cleaned/somebody.zip"]
    assert pal_shard("verify", dest, env=bucket.env).returncode == 0
    assert json.loads(pal_shard("clean", dest, "--json", env=bucket.env).stdout)["removed"] == []


@pytest.mark.slow
def test_a_task_aborts_its_own_shards_uploads_and_leaves_other_tasks_theirs(
    bucket: Any, corpus, pal_shard
) -> None:
    dest = "s3://shards-kill/tasks"
    arguments = ("build", corpus, dest, "--shard-bytes", "60KB", "--quiet", "--num-tasks", 2, "--task-index")
    leave_upload(bucket, "tasks/train-000000.tar")
    leave_upload(bucket, "tasks/train-000001.tar")
    assert pal_shard(*arguments, 0, env=bucket.env).returncode == 0
    assert [key for key in unfinished(bucket) if key.startswith("tasks/")] == ["tasks/train-000001.tar"]
    assert pal_shard(*arguments, 1, env=bucket.env).returncode == 0
    assert pal_shard("finish", dest, env=bucket.env).returncode == 0
    assert [key for key in unfinished(bucket) if key.startswith("tasks/")] == []
