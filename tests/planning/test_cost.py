"""The cost model: its arithmetic against figures worked out by hand, and its limits."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config import load_config
from pal_ds.config.backbones import BACKBONES
from pal_ds.models import build_backbone
from pal_ds.planning.cost import describe_cost, job_of, main, markdown
from pal_ds.planning.hardware import GPUS, find_gpu
from pal_ds.planning.network_work import count_work
from pal_ds.planning.step_estimate import (
    PAPER_NETWORK,
    Job,
    estimate,
    gpu_videos_per_second,
    scaling_ends,
    step_tflop,
)

ROOT = Path(__file__).resolve().parents[2]
WORLDS = (1, 2, 4, 8, 16, 32, 64)


def test_a_step_of_the_paper_is_110_tflop() -> None:
    # 512 videos x 8 clips x (4 forward passes of 7.13 GFLOP less the stem's input gradient of 1.66)
    assert step_tflop(Job()) == pytest.approx(512 * 8 * (4 * 7.13 - 1.66) / 1e3)
    assert step_tflop(Job()) == pytest.approx(110, rel=0.01)
    assert step_tflop(dataclasses.replace(Job(), passes=2)) == 2 * step_tflop(Job())


@pytest.mark.parametrize(
    ("name", "forwards"),
    [
        ("pal_i3d_k400", 4),
        ("moco_i3d_k400", 4),
        ("tac_i3d_k400", 3),
        ("speed_i3d_k400", 3),
        ("pal_modern", 9),
    ],
)
def test_work_follows_the_views_of_a_config(name: str, forwards: int) -> None:
    """A query costs three forward passes with its backward, a key one; pal_modern has 2 x 3 + 2 + 1."""
    config = load_config(ROOT / "configs" / "pretrain" / f"{name}.yaml", ["data.shards=/s", "run.dir=/r"])
    job = job_of(config, videos=240_000, clip_bytes=3e5, gpu=GPUS["h100"], gpus=1, price=3.0)
    assert job.passes == forwards / 4


def test_one_gpu_by_hand() -> None:
    found = estimate(Job(gpus=1))
    assert found.compute_seconds == pytest.approx(110.0 / (989 * 0.2), rel=1e-3)
    assert (found.syncbn_seconds, found.gradient_seconds, found.other_seconds) == (0, 0, 0)
    # 330 MB of traffic a video at 3.35 TB/s; a wait is 0.3 ms
    assert found.render_seconds == pytest.approx(512 * 330e6 / 3.35e12)
    assert found.wait_seconds == 0
    assert estimate(Job(gpus=1, waits=2)).wait_seconds == pytest.approx(0.6e-3)
    assert found.copy_seconds == pytest.approx(512 * 8.7e6 / 25e9)
    assert found.step_seconds == found.compute_seconds + found.render_seconds + found.wait_seconds
    assert found.videos_per_second == pytest.approx(844, abs=1)
    assert found.hours == pytest.approx(468 * 200 * found.step_seconds / 3600)
    assert found.gpu_price == pytest.approx(3.0 * found.hours)
    assert found.cores_needed == pytest.approx(844 / 65, rel=0.01)
    assert found.read_mbs == pytest.approx(844 * 0.3, rel=0.01)
    # 47,923,200 videos of 300 kB in requests of 2.1 MB
    requests = 468 * 200 * 512 * 0.3 / 2.1
    assert found.request_price == pytest.approx(requests / 1000 * 0.0004)


def test_collectives_by_hand() -> None:
    inside, across = estimate(Job(gpus=8)), estimate(Job(gpus=16))
    assert inside.syncbn_seconds == pytest.approx(171 * 40e-6)
    assert across.syncbn_seconds == pytest.approx(171 * 80e-6)
    assert inside.gradient_seconds == pytest.approx(40e-6 + 2 * 7 / 8 * 49.16e6 / 200e9, rel=1e-3)
    assert across.gradient_seconds == pytest.approx(80e-6 + 2 * 15 / 16 * 49.16e6 / 12.5e9, rel=1e-3)
    accumulated = estimate(Job(gpus=8, accumulation=4))
    assert accumulated.syncbn_seconds == pytest.approx(4 * inside.syncbn_seconds)
    assert accumulated.gradient_seconds == inside.gradient_seconds


def test_a_limit_takes_over_where_it_should() -> None:
    assert estimate(Job(gpus=1)).compute_limit == "flops"
    assert estimate(Job(gpus=1, mfu=0.9)).compute_limit == "memory"
    assert estimate(Job(gpus=64)).compute_limit == "launches"
    few = estimate(Job(gpus=8, cores_per_gpu=2))
    assert few.limit == "decoding"
    assert few.videos_per_second == pytest.approx(8 * 2 * 65)
    assert estimate(Job(gpus=8, cores_per_gpu=64)).limit == "gpu"
    slow = estimate(Job(gpus=8, host_gbs=5, cores_per_gpu=64))
    assert slow.limit == "copies"
    assert slow.step_seconds == pytest.approx(64 * 8.7e6 / 5e9)


def test_strong_scaling_ends_between_16_and_32_gpus_at_the_papers_batch() -> None:
    found = [estimate(Job(gpus=count)) for count in WORLDS]
    assert scaling_ends(found) == 32
    assert scaling_ends(found[:3]) is None
    assert found[0].efficiency == 1.0


@given(
    st.sampled_from(sorted(GPUS)),
    st.sampled_from(sorted(BACKBONES)),
    st.floats(0.01, 1.0),
    st.floats(1.0, 256.0),
    st.sampled_from([64, 512, 4096]),
)
@settings(max_examples=60, deadline=None)
def test_more_gpus_are_never_slower_inside_a_node_nor_cheaper(
    gpu: str, network: str, mfu: float, cores: float, batch: int
) -> None:
    job = Job(gpu=GPUS[gpu], network=count_work(network), mfu=mfu, cores_per_gpu=cores, global_batch=batch)
    found = [estimate(dataclasses.replace(job, gpus=count)) for count in WORLDS]
    for one, more in itertools.pairwise(found):
        assert more.gpu_price >= one.gpu_price * (1 - 1e-9)
        assert more.efficiency <= one.efficiency * (1 + 1e-9)
        assert more.compute_seconds <= one.compute_seconds
    assert all(one.step_seconds >= one.decode_seconds for one in found)


def test_the_papers_network_is_what_torch_counts() -> None:
    """The paper's figure also holds what is not a convolution, 2 %."""
    counted = count_work("i3d")
    for name in ("forward_gflop", "train_gflop", "parameters"):
        assert getattr(PAPER_NETWORK, name) == pytest.approx(getattr(counted, name), rel=0.03)
    assert PAPER_NETWORK.norms == counted.norms


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_counted(name: str) -> None:
    """A backward pass is twice the forward pass, less the gradient of the input."""
    counted = count_work(name)
    assert 2.5 < counted.train_gflop / counted.forward_gflop < 3
    assert counted.parameters == sum(value.numel() for value in build_backbone(name).parameters())


def test_gpus_are_known_by_the_names_cuda_gives() -> None:
    assert find_gpu("NVIDIA H100 80GB HBM3") is GPUS["h100"]
    assert find_gpu("NVIDIA H100 PCIe") is GPUS["h100-pcie"]
    assert find_gpu("NVIDIA A100-SXM4-80GB") is GPUS["a100"]
    assert find_gpu("Tesla V100-SXM2-32GB") is GPUS["v100"]
    assert find_gpu("NVIDIA GeForce RTX 4090") is None
    assert gpu_videos_per_second(GPUS["h100"]) == pytest.approx(921, abs=1)


def test_a_config_becomes_a_job() -> None:
    places = ["data.shards=/s", "run.dir=/r"]
    paper = load_config(ROOT / "configs/pretrain/pal_i3d_k400.yaml", [*places, "data.workers=16"])
    job = job_of(paper, videos=240_000, clip_bytes=300_000, gpu=GPUS["h100"], gpus=8, price=3.0)
    assert estimate(job).hours == pytest.approx(estimate(Job()).hours, rel=0.03)
    narrow = load_config(
        ROOT / "configs/pretrain/pal_modern.yaml", [*places, "model.width=0.5", "synthesis.size=56"]
    )
    job = job_of(narrow, videos=240_000, clip_bytes=300_000, gpu=GPUS["h100"], gpus=8, price=3.0)
    assert step_tflop(job) == pytest.approx(2.25 * step_tflop(Job()) / 16, rel=0.03)


def test_a_dry_run_can_tell_the_cost_of_a_run_cut_short() -> None:
    whole, short = Job(gpus=8), Job(gpus=8, steps=936)
    assert estimate(whole).gpu_price == pytest.approx(100 * estimate(short).gpu_price)
    told = describe_cost(short)
    assert told["step time, estimated"] == "83 ms on 8 x H100 at 20% MFU (assumed); gpu is the limit"
    assert told["decoding cores wanted per GPU"] == "12, if one decodes 65 videos/s"
    assert told["price, estimated"] == "0.52 at 3.00 a GPU-hour, 0.03 for reads"
    assert describe_cost(whole)["price, estimated"].startswith("51.96 at 3.00")


def test_the_command_prints_the_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--gpu", "h100", "--gpus", "8", "1", "--price", "2.5", "--mfu", "0.3"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["1", "8"]
    assert "MFU 30% assumed" in lines[-1]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["job"]["mfu"] == 0.3
    expected = estimate(Job(gpus=8, price=2.5, mfu=0.3))
    assert document["estimates"][1] == dataclasses.asdict(expected)


@pytest.mark.parametrize(
    "words", [["--mfu", "0"], ["--mfu", "2"], ["--gpus", "0"], ["--price", "inf"], ["--gpu", "x"]]
)
def test_numbers_without_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_the_documentation_shows_what_the_command_prints() -> None:
    text = (ROOT / "docs/scaling.md").read_text()
    for gpu, price in (("h100", 3.0), ("a100", 1.8)):
        found = [estimate(Job(gpu=GPUS[gpu], gpus=count, price=price)) for count in WORLDS]
        assert markdown(found) in text
