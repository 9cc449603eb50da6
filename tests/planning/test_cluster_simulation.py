"""The cluster simulation against what arithmetic says where one part alone decides."""

import dataclasses

import pytest

from pal_ds.config import ConfigError, load_config
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.formats.shardset import Manifest, ShardEntry, SplitEntry
from pal_ds.planning.cluster_simulation import Cluster, describe_forecast, forecast, parse_cluster
from pal_ds.planning.dry_run import dry_run
from pal_ds.planning.step_estimate import Job
from pal_ds.planning.streaming_load import describe_streaming, plan_streaming

CLIP_BYTES = 190_000
#: Nothing in it ever waits for anything but what a test makes slow.
IDEAL = Cluster(
    nodes=2,
    gpus=4,
    cores=10_000,
    decode_rate=1e6,
    train_rate=900.0,
    first_byte_ms=0.01,
    connection_mbs=1e6,
    network_gbits=1e6,
)


def split(shards=200, clips=500):
    entries = tuple(
        ShardEntry(name=f"train-{number:06d}.tar", clips=clips, bytes=clips * CLIP_BYTES, sha256="0")
        for number in range(shards)
    )
    total = shards * clips
    return SplitEntry(
        clips=total, frames=300 * total, seconds=10.0 * total, bytes=total * CLIP_BYTES, shards=entries
    )


def run_of(*settings):
    config = load_config(
        "configs/pretrain/pal_i3d_k400.yaml",
        ["data.shards=x", "run.dir=y", "data.workers=8", "data.global_batch=512", *settings],
    )
    epoch = EpochPlan.from_manifest(
        split(),
        global_batch=config.data.global_batch,
        group_size=config.data.group_size,
        lanes_per_group=config.data.lanes,
        slice_bytes=config.data.slice_bytes,
        window_slices=config.data.window_slices,
    )
    return config, epoch


@pytest.mark.parametrize(
    ("slow", "rate", "bottleneck"),
    [
        ({}, 8 * 900.0, "gpu"),
        # 64 workers of 20 videos/s
        ({"decode_rate": 20.0}, 64 * 20.0, "decoding"),
        # 4 ranks of a node share 16 cores: 8 workers a rank have half a core each
        ({"decode_rate": 20.0, "cores": 16}, 2 * 16 * 20.0, "decoding"),
        # 2 nodes of 1 Gbit/s over 190 kB a clip
        ({"network_gbits": 1.0}, 2 * 0.125e9 / CLIP_BYTES, "network of a node"),
    ],
)
def test_one_slow_part_decides_and_is_named(slow, rate, bottleneck):
    config, epoch = run_of()
    found = forecast(config, epoch, dataclasses.replace(IDEAL, **slow))
    assert found.videos_per_second == pytest.approx(rate, rel=0.04)
    assert found.bottleneck == bottleneck
    assert found.doubled[bottleneck] == pytest.approx(2 * rate, rel=0.1)


def test_slow_first_bytes_are_told_from_slow_connections():
    config, epoch = run_of()
    late = forecast(config, epoch, dataclasses.replace(IDEAL, first_byte_ms=4000.0))
    assert late.bottleneck in ("first byte of the store", "data.read_threads")
    assert late.data_wait > 0.5
    thin = forecast(config, epoch, dataclasses.replace(IDEAL, connection_mbs=0.05))
    assert thin.bottleneck in ("bandwidth of a connection", "data.read_threads")
    assert thin.doubled["first byte of the store"] == pytest.approx(thin.videos_per_second, rel=0.02)


@pytest.mark.parametrize("part", ["decode_rate", "train_rate", "connection_mbs", "network_gbits"])
def test_no_part_made_faster_makes_the_run_slower(part):
    config, epoch = run_of()
    base = Cluster(nodes=2, gpus=4, cores=48)
    rates = [
        forecast(
            config, epoch, dataclasses.replace(base, **{part: factor * getattr(base, part)})
        ).videos_per_second
        for factor in (0.25, 1.0, 4.0)
    ]
    assert rates[0] <= rates[1] * 1.001 <= rates[2] * 1.002


def test_reading_follows_the_memory_there_is():
    config, epoch = run_of("data.worker_memory_mb=40")
    by_groups = plan_streaming(config, epoch, 8)
    assert (by_groups.lanes, by_groups.whole_windows) == (8, False)
    assert by_groups.unit_bytes == 8 * epoch.clip_bytes
    assert 5 < by_groups.requests_per_unit <= 8
    config, epoch = run_of()
    whole = plan_streaming(config, epoch, 8)
    assert whole.whole_windows
    assert whole.requests_per_group < 3
    assert 9 * whole.window_bytes <= whole.buffer_bytes == 96e6


def test_the_dry_run_tells_what_is_asked_of_the_store():
    config, epoch = run_of("data.worker_memory_mb=40")
    told = describe_streaming(config, epoch, 8)
    assert told["lanes of a worker"] == 8
    assert "group by group" in told["open windows of a worker"]
    assert told["range reads per step, expected"] == pytest.approx(
        plan_streaming(config, epoch, 8).requests_per_group * 64, abs=0.1
    )


def test_a_world_that_does_not_divide_the_batch_is_refused():
    config, epoch = run_of()
    with pytest.raises(ConfigError, match="world size"):
        forecast(config, epoch, dataclasses.replace(IDEAL, gpus=5))
    config, epoch = run_of("data.workers=0")
    with pytest.raises(ConfigError, match=r"data\.workers"):
        forecast(config, epoch, IDEAL)


def test_a_cluster_is_given_in_one_word():
    assert parse_cluster("nodes=4, gpus=2,decode_rate=60.5") == Cluster(nodes=4, gpus=2, decode_rate=60.5)
    for wrong in ("node=4", "nodes", "nodes=x", "cores=0", "gpus=-1", "first_byte_ms=nan", ""):
        with pytest.raises(ConfigError, match="--cluster"):
            parse_cluster(wrong)


def test_both_forecasts_take_a_core_to_decode_alike():
    assert Cluster().decode_rate == Job().decode_per_core


def test_the_dry_run_simulates_a_cluster(tmp_path, capsys):
    manifest = Manifest(recipe={}, splits={"train": split(), "val": split(2, 50)})
    (tmp_path / "manifest.json").write_bytes(manifest.to_json())
    config, epoch = run_of(f"data.shards={tmp_path}")
    assert dry_run(config, 1, as_json=False, cluster="nodes=2,gpus=4,decode_rate=5") == 0
    told = capsys.readouterr().out
    machines = parse_cluster("nodes=2,gpus=4,decode_rate=5")
    assert "512 videos = 8 ranks x 64" in told
    assert "range reads per step" in told
    for value in describe_forecast(machines, forecast(config, epoch, machines)).values():
        assert value in told
    assert "decoding" in describe_forecast(machines, forecast(config, epoch, machines))["bottleneck"]
