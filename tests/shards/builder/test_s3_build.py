"""Builds from and to a real S3 server: the same bytes as on a local disk, and clear refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.shard_files import files_of

SMALL = ("--shard-bytes", "60KB", "--quiet")


@pytest.fixture(scope="module")
def store(s3_server: Any, corpus: Path) -> Iterator[Any]:
    """The server with the corpus in a bucket, and a client to look into it."""
    import s3fs

    s3_server.bucket("shards-test")
    client = s3fs.S3FileSystem(
        key=s3_server.env["AWS_ACCESS_KEY_ID"],
        secret=s3_server.env["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=s3_server.url,
        use_listings_cache=False,
    )
    client.put(f"{corpus}/", "shards-test/videos/", recursive=True)
    s3_server.client = client
    yield s3_server


@pytest.fixture(scope="module")
def local_set(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a build of the corpus on the local disk gives."""
    folder = tmp_path_factory.mktemp("local") / "out"
    command = [sys.executable, "-m", "shards.cli", "build", str(corpus), str(folder), *SMALL]
    subprocess.run(command, check=True, capture_output=True)
    return files_of(folder)


def remote_files(store: Any, prefix: str) -> dict[str, bytes]:
    return {name[len(prefix) + 1 :]: store.client.cat_file(name) for name in store.client.find(prefix)}


@pytest.mark.slow
def test_prefix_to_bucket_gives_the_bytes_of_a_local_build(store, local_set, pal_shard) -> None:
    done = pal_shard("build", "s3://shards-test/videos", "s3://shards-test/out", *SMALL, env=store.env)
    assert done.returncode == 0, done.stderr
    assert remote_files(store, "shards-test/out") == local_set
    sound = pal_shard("verify", "s3://shards-test/out", "--decode", env=store.env)
    assert sound.returncode == 0, sound.stdout


@pytest.mark.slow
def test_a_server_that_drops_a_fifth_of_the_requests_changes_nothing(store, local_set, pal_shard) -> None:
    proxy = FaultProxy(store.port, share=0.2, seed=3)
    try:
        env = {**store.env, "AWS_ENDPOINT_URL": proxy.url}
        done = pal_shard("build", "s3://shards-test/videos", "s3://shards-test/flaky", *SMALL, env=env)
        assert done.returncode == 0, done.stderr
        assert proxy.dropped > 5
    finally:
        proxy.close()
    assert remote_files(store, "shards-test/flaky") == local_set


@pytest.mark.slow
@pytest.mark.parametrize("case", ["wrong key", "missing bucket", "read-only"])
def test_a_store_that_refuses_is_told_in_one_line_before_any_work(store, corpus, pal_shard, case) -> None:
    dest = "s3://no-such-bucket-at-all/x" if case == "missing bucket" else "s3://shards-test/refused"
    env = dict(store.read_only_env if case == "read-only" else store.env)
    if case == "wrong key":
        env["AWS_SECRET_ACCESS_KEY"] = "wrong"
    done = pal_shard("build", corpus, dest, *SMALL, env=env, timeout=300)  # not the retry budget of a run
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert store.env["AWS_SECRET_ACCESS_KEY"] not in done.stderr
    assert store.client.find("shards-test/refused") == []
