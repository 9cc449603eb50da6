"""Training from s3:// into s3:// puts nothing on local disk but its small log spool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.formats import shardset
from tests.support.launching import Launcher, words

pytestmark = pytest.mark.slow
SPOOL_BYTES = 256 << 10


@pytest.fixture
def tiny_tmp(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder that can't hold two shards, however anything tries."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_nothing_lies_between_the_store_and_the_decoder(
    tiny_set: Path, launcher: Launcher, s3_env: S3Server, tmp_path: Path, tiny_tmp: Path
) -> None:
    place = storage.join(s3_env.bucket("no-local-copy"), tmp_path.name)
    for path in tiny_set.iterdir():
        storage.upload_file(path, storage.join(place, "set", path.name))
    run, audit = storage.join(place, "run"), tmp_path / "audit"
    options = ["data.workers=2", "data.start_method=fork", "run.max_steps=8", "log.tensorboard=true"]
    done = launcher.run(
        0,
        words(storage.join(place, "set"), run, *options),
        script="tests/support/pretrain_audited.py",
        TMPDIR=str(tiny_tmp),
        PAL_TEST_AUDIT=str(audit),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in storage.read_bytes(storage.join(run, "metrics.jsonl")).splitlines()]
    read = max(row.get("loader_bytes", 0) for row in rows)
    manifest = shardset.load_manifest(storage.join(place, "set"))
    assert read > 0.8 * manifest.splits["train"].bytes
    opened = set(audit.read_text().splitlines())
    allowed = (f"{tiny_tmp}/", "/dev/", "/proc/", str(audit))
    assert {path for path in opened if not path.startswith(allowed) and "__pycache__" not in path} == set()
    assert any(path.startswith(f"{tiny_tmp}/pal-logs-") for path in opened), "the audit saw nothing"
    assert storage.list_names(storage.join(run, "checkpoints")) == ["step-00000004", "step-00000008"]
