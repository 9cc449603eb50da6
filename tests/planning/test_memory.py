"""The memory planner: its bytes against what torch keeps, what it refuses, and the fix that it names."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from pal_ds.config import Config, ConfigError, load_config
from pal_ds.config.backbones import BACKBONES
from pal_ds.config.model import ModelConfig
from pal_ds.models import build_backbone
from pal_ds.planning import memory
from pal_ds.planning.activations import LiveStorages, clip_memory
from pal_ds.planning.memory import GIB, check_memory, describe_memory, memory_fix, memory_need
from tests.support.saved_tensors import saved_bytes

ROOT = Path(__file__).resolve().parents[2]
H100_GIB = 79.1


def paper(*words: str) -> Config:
    places = ["data.shards=/s", "run.dir=/r"]
    return load_config(ROOT / "configs" / "pretrain" / "pal_i3d_k400.yaml", [*places, *words])


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("recomputed", [0, 1])
def test_planned_bytes_are_what_torch_keeps(name: str, recomputed: int) -> None:
    """At the published size, by torch's own hooks; a recomputed first stage keeps the clip, which is not counted."""
    backbone, clips = build_backbone(name), 2
    x = torch.randn(clips, 3, 8, 112, 112).contiguous(memory_format=torch.channels_last_3d)
    without = [*backbone.parameters(), *backbone.buffers(), x]
    backbone.recomputed_stages = recomputed
    measured = saved_bytes(lambda: backbone(x), without)
    model = ModelConfig(backbone=name, recompute_stages=recomputed)
    planned = clip_memory(model, "fp32", frames=8, size=112).kept
    assert planned == pytest.approx(measured / clips, rel=0.1)


@pytest.mark.parametrize("name", BACKBONES)
def test_planned_bytes_in_half_precision_are_what_torch_keeps(name: str) -> None:
    backbone, clips = build_backbone(name, width=0.25), 4
    x = torch.randn(clips, 3, 8, 64, 64).contiguous(memory_format=torch.channels_last_3d)
    weights = 2 * sum(parameter.numel() for parameter in backbone.parameters() if parameter.ndim > 1)
    with torch.autocast("cpu", torch.bfloat16):
        measured = saved_bytes(lambda: backbone(x), [*backbone.parameters(), *backbone.buffers(), x])
    planned = clip_memory(ModelConfig(backbone=name, width=0.25), "bf16", frames=8, size=64).kept
    # Autocast keeps a half-precision copy of the weights too, whatever the batch.
    assert planned == pytest.approx((measured - weights) / clips, rel=0.1)


def test_the_most_alive_at_once_is_counted_as_it_is_given_back() -> None:
    start = torch.zeros(1000)
    with LiveStorages([start]) as live:
        one = start + 1
        two = one * 2
        assert live.alive == 8000
        del one
        gc.collect()
        three = two.view(10, 100)
        assert live.alive == 4000
        three.add_(1)
    assert live.most == 8000


def test_memory_grows_with_the_batch_and_falls_with_recomputed_stages_and_ranks() -> None:
    needs = [memory_need(paper(f"model.recompute_stages={stages}"), 1).total(512) for stages in (0, 1, 2)]
    assert needs == sorted(needs, reverse=True)
    need = memory_need(paper(), 1)
    largest = need.largest(H100_GIB * GIB, 8)
    assert largest % 8 == 0
    assert need.total(largest) <= H100_GIB * GIB < need.total(largest + 8)
    assert need.largest(1 * GIB, 8) == 0
    zero = memory_need(paper("zero_stage=2"), 8), memory_need(paper("zero_stage=1"), 8)
    assert zero[0].total(8) < zero[1].total(8)
    assert memory_need(paper("precision=fp32"), 1).total(64) > need.total(64)
    assert (
        memory_need(paper("data.decode_device=cuda", "data.workers=4"), 1).total(8) - need.total(8) > 2 * GIB
    )


def test_the_papers_batch_fits_one_card_of_80_gb_only_with_stages_recomputed() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.global_batch = 512: 512 videos a rank need .* the GPU has 79\.1"
    ):
        check_memory(paper(), 512, 1, H100_GIB)
    fix = memory_fix(paper(), 1, H100_GIB)
    assert fix.startswith("set model.recompute_stages=")
    word = fix.split()[1]
    check_memory(paper(word), 512, 1, H100_GIB)
    check_memory(paper(), 64, 8, H100_GIB)


def test_where_stages_do_not_help_more_gpus_do_or_nothing() -> None:
    large = paper("synthesis.size=224")
    assert memory_fix(large, 1, H100_GIB) == "use 8 GPUs"
    assert memory_fix(paper("model.compile=true"), 1, H100_GIB) == "use 2 GPUs"
    assert memory_fix(large, 64, 5.0).startswith("use a larger data.accumulation")


def test_a_dry_run_tells_the_parts_and_the_largest_batch() -> None:
    config = paper("data.global_batch=256")
    need = check_memory(config, 256, 1, H100_GIB)
    told = describe_memory(config, need, 256, 1, H100_GIB)
    parts = [value for name, value in told.items() if name.endswith("(GiB)")]
    assert sum(parts) == pytest.approx(need.total(256) / GIB, abs=0.1)
    assert told["memory a rank, estimated"].endswith("GiB of 79.1")
    largest = told["largest micro-batch a rank, estimated"]
    assert 256 <= largest < told["largest micro-batch a rank with all stages recomputed, estimated"]
    assert "activations" in " ".join(told)


def test_a_run_that_may_not_fit_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    memory.warn_of_memory(paper("data.global_batch=64"), 64, 1, H100_GIB)
    assert not caplog.text
    memory.warn_of_memory(paper(), 512, 1, H100_GIB)
    assert "set model.recompute_stages=" in caplog.text
