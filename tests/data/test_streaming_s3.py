"""Streaming from a real S3 server: the same batches as from a folder, by every start method."""

from pathlib import Path

import pytest
from tests.support.loading import global_batches

from pal_ds import storage

pytestmark = pytest.mark.slow


@pytest.fixture
def s3_url(shard_url, s3_env):
    url = s3_env.bucket("streaming")
    for path in sorted(Path(shard_url).iterdir()):
        storage.upload_file(path, storage.join(url, path.name))
    return url


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": 2, "start_method": "fork"},
        {"workers": 1, "start_method": "forkserver", "worker_memory_mb": 1},
    ],
)
def test_batches_from_s3_are_those_from_a_folder(shard_url, s3_url, settings):
    assert global_batches(s3_url, 5, **settings) == global_batches(shard_url, 5)
