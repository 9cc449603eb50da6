"""A store that misbehaves in every way at once changes no batch (docs/design.md, "Failures and signals").

``PAL_FULL_SIZE=1`` runs it at full size: larger clips at 2 MB/s, and an outage of 30 s instead of 3.
"""

import dataclasses
import os
import random
from pathlib import Path

import pytest
import s3fs

from pal_ds import storage
from pal_ds.storage import ReadCounters, RetryPolicy, StorageAccessError, StorageError
from tests.support.faulty_s3 import Faults, FaultyS3
from tests.support.loading import global_batches, loader_of
from tests.support.tiny_shards import encode, sample, write_set

pytestmark = pytest.mark.slow
FULL = os.environ.get("PAL_FULL_SIZE") == "1"
STEPS = 40 if FULL else 9
EVERYTHING = Faults(
    cut_share=0.2,
    length_share=0.1,
    burst_every=25,
    burst=5,
    outage_at=40,
    outage_seconds=30.0 if FULL else 3.0,
    expire_at=80,
    bytes_per_second=2e6,
)
GROUP_BY_GROUP = {"worker_memory_mb": 1}
#: Waits less between tries, to keep the test short.
IMPATIENT = RetryPolicy(first_delay=0.05, max_delay=0.5, patient_access=True)


@pytest.fixture(scope="module")
def folder_url(tmp_path_factory, shard_url):
    """The tiny set, or one whose clips are large enough to feel the link."""
    if not FULL:
        return shard_url
    videos = [(encode(seed, 250, width=192, height=144), 250) for seed in range(6)]
    shards = [
        [
            sample(f"{shard}/{clip}", *videos[(shard + clip) % 6], width=192, height=144)
            for clip in range(count)
        ]
        for shard, count in enumerate((40, 13, 60))
    ]
    return write_set(tmp_path_factory.mktemp("full"), {"train": shards})


@pytest.fixture
def bucket(folder_url, s3_env):
    url = s3_env.bucket("faults")
    for path in sorted(Path(folder_url).iterdir()):
        storage.upload_file(path, storage.join(url, path.name))
    return url


@pytest.fixture
def behind(s3_env, monkeypatch, tmp_path):
    """Start a faulty proxy, with this process's credentials in a file that is renewed at expiry."""
    started = []
    credentials = tmp_path / "credentials"

    def write_credentials(env):
        fresh = credentials.with_suffix(".new")
        fresh.write_text(
            f"[default]\naws_access_key_id = {env['AWS_ACCESS_KEY_ID']}\n"
            f"aws_secret_access_key = {env['AWS_SECRET_ACCESS_KEY']}\n"
        )
        fresh.replace(credentials)

    def start(faults, *, renewed=True):
        write_credentials(s3_env.env)
        renew = (lambda: write_credentials(s3_env.read_only_env)) if renewed else (lambda: None)
        proxy = FaultyS3(s3_env.port, faults, seed=7, on_expiry=renew)
        started.append(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        s3fs.S3FileSystem.clear_instance_cache()
        return proxy

    yield start
    for proxy in started:
        proxy.close()


@pytest.mark.parametrize("start_method", ["fork", "forkserver"] if FULL else ["fork"])
def test_a_store_that_fails_in_every_way_changes_no_batch(folder_url, bucket, behind, start_method):
    expected = global_batches(folder_url, STEPS)
    proxy = behind(EVERYTHING)
    seen = []
    found = global_batches(
        bucket,
        STEPS,
        workers=2,
        start_method=start_method,
        on_close=lambda loader: seen.append(loader.stats()),
        retry=RetryPolicy(patient_access=True) if FULL else IMPATIENT,
        **GROUP_BY_GROUP,
    )
    assert found == expected
    for fate in ("cut", "short", "long", "503", "outage", "expired"):
        assert proxy.counts[fate] > 0, proxy.counts
    (stats,) = seen
    assert stats.retries >= proxy.counts["503"] // 2
    assert stats.retry_wait_seconds > 0
    assert stats.replaced == stats.worker_restarts == 0
    print({**proxy.counts, **dataclasses.asdict(stats)})


def test_an_expired_token_that_looks_like_another_fault_is_renewed(bucket, behind):
    behind(Faults(expire_at=2, refused_heads_have_bodies=True))
    url = storage.join(bucket, "manifest.json")
    data = storage.read_bytes(url, retry=IMPATIENT)
    assert [storage.read_bytes(url, retry=IMPATIENT) for _ in range(3)] == 3 * [data]


def test_connections_that_never_last_long_still_bring_a_range_home(bucket, behind):
    data = random.Random(0).randbytes(1_000_000)
    storage.write_bytes(storage.join(bucket, "long"), data)
    behind(Faults(cut_after=100_000))
    counters = ReadCounters()
    found = storage.read_range(storage.join(bucket, "long"), 10, 900_000, retry=IMPATIENT, counters=counters)
    assert found == data[10:900_000]
    assert 9 < counters.requests < 50
    assert counters.bytes == 899_990


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        (Faults(outage_at=12, outage_seconds=1e6), StorageError, r"(tar|json): .*after \d+ tries"),
        (Faults(burst_every=12, burst=10**9), StorageError, r"(tar|json): .*(SlowDown|Unavailable)"),
        (Faults(expire_at=12), StorageAccessError, r"(tar|json): .*(Expired|Forbidden|403)"),
    ],
    ids=["outage", "503", "expired for good"],
)
def test_after_the_budget_there_is_one_clear_error(bucket, behind, faults, error, message):
    behind(faults, renewed=False)
    loader = loader_of(
        bucket,
        workers=2,
        start_method="fork",
        retry=dataclasses.replace(IMPATIENT, budget_seconds=1.0),
        **GROUP_BY_GROUP,
    )
    with pytest.raises(error, match=message) as caught:
        for _ in range(30):
            next(loader)
    assert "\n" not in str(caught.value)
    assert caught.value.url.startswith(bucket)
    loader.close()
