"""The streaming benchmark's own parts: its sets are sound, and its server is shaped as it says."""

import time

import pytest

from benchmarks.streaming import reading, sets
from benchmarks.streaming.run import medians, ratio, use_environment
from benchmarks.streaming.shaped import ShapedServer
from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.tar_samples import split_samples


@pytest.fixture(scope="module")
def bulk(tmp_path_factory):
    return sets.write_bulk_set(
        tmp_path_factory.mktemp("bulk") / "bench", shards=3, clips=200, clip_bytes=20_000
    )


def test_a_multiplied_set_holds_every_clip_under_other_keys(bulk, tmp_path):
    more = sets.multiplied(bulk, tmp_path / "more", 3)
    manifest = shardset.load_manifest(str(more))
    shards = manifest.splits["train"].shards
    assert len(shards) > 3
    assert manifest.splits["train"].clips == 1800
    samples = [sample for shard in shards for sample in split_samples((more / shard.name).read_bytes())]
    assert len({sample.key for sample in samples}) == 1800
    assert len({sample.record.sha256 for sample in samples}) == 600
    assert all(sample.record.bytes == len(sample.video) for sample in samples)


@pytest.mark.slow
def test_the_server_waits_and_limits_and_readers_get_every_byte(bulk, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")
    with ShapedServer(bulk, first_byte_seconds=0.2, bytes_per_second=4e6) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        use_environment(server.env)
        path = bulk / "train-000001.tar"
        begun = time.monotonic()
        found = storage.read_range("s3://bench/train-000001.tar", 1000, 2_001_000)
        assert found == path.read_bytes()[1000:2_001_000]
        assert time.monotonic() - begun > 0.2 + 0.4
        assert storage.read_bytes("s3://bench/manifest.json") == (bulk / "manifest.json").read_bytes()
    with ShapedServer(bulk) as server:
        use_environment(server.env)
        assert reading.raw_get("s3://bench", 0.5)["megabytes_per_second"] > 0
        assert reading.stream("s3://bench", "windows", 0.5)["megabytes_per_second"] > 0


def test_medians_are_those_of_each_figure_and_ratios_those_of_neighbours():
    found = {
        "a": [{"rate": float(value), "cost": 10.0 - value} for value in (1, 5, 2)],
        "b": [{"rate": 2.0 * value, "cost": 1.0} for value in (1, 5, 2)],
        "c": [{"rate": 8.0, "cost": 1.0}],
    }
    assert medians(found)["a"] == {"rate": 2.0, "cost": 8.0}
    assert ratio(found, "b", "a", "rate") == 2.0
    assert ratio(found, "c", "a", "rate") == 4.0
