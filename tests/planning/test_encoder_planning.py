"""Encoders of transformers in a plan: what is frozen costs no gradient, no moments and no key; dry runs print it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pal_ds.config import Config, load_config
from pal_ds.planning.activations import clip_memory
from pal_ds.planning.cost import job_of
from pal_ds.planning.hardware import GPUS
from pal_ds.planning.memory import describe_memory, memory_need
from pal_ds.planning.network_work import count_encoder_work
from tests.support.encoders import KINDS, tiny_transformer, write_folder
from tests.support.saved_tensors import saved_bytes


def config(folder: Path, kind: str, *words: str, **options: float) -> Config:
    places = ["data.shards=/s", "run.dir=/r", "synthesis.clip_frames=4", "synthesis.size=32"]
    backbone = write_folder(folder, kind, **options)
    return load_config("pal_i3d_k400", [*places, f"model.backbone={backbone}", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_costs_less(kind: str, tmp_path: Path) -> None:
    whole, adapted = config(tmp_path, kind), config(tmp_path, kind, "model.lora_rank=2")
    parts = [memory_need(each, 8).parts(8) for each in (whole, adapted)]
    numbers = sum(each.numel() for each in tiny_transformer(kind).parameters())
    queue = 16384 * 128 * 4
    assert parts[0]["key encoder and queue"] == 4 * numbers + queue
    assert parts[1]["key encoder and queue"] < 0.2 * 4 * numbers + queue
    assert parts[1]["weights, gradients, optimizer"] < parts[0]["weights, gradients, optimizer"]


@pytest.mark.parametrize("kind", ["videomae", "dinov2"])
def test_work_is_counted_on_the_encoder_itself(kind: str, tmp_path: Path) -> None:
    made = config(tmp_path, kind)
    work = count_encoder_work(made.model, 4, 32)
    assert work.parameters == sum(each.numel() for each in tiny_transformer(kind).parameters())
    assert 2.0 < work.train_gflop / work.forward_gflop <= 3.0
    longer = count_encoder_work(config(tmp_path, "dinov2").model, 8, 32)
    assert longer.forward_gflop == pytest.approx(
        2 * count_encoder_work(config(tmp_path, "dinov2").model, 4, 32).forward_gflop
    )
    again = count_encoder_work(config(tmp_path, kind, "model.recompute_stages=2").model, 4, 32)
    assert again.train_gflop > work.train_gflop
    assert job_of(made, videos=9, clip_bytes=9, gpu=GPUS["h100"], gpus=8, price=1.0).scale == 1.0


def test_dropout_inside_blocks_leaves_recomputing_out_of_the_plan(tmp_path: Path) -> None:
    made = config(tmp_path, "vivit", hidden_dropout_prob=0.1)
    figures = describe_memory(made, memory_need(made, 8), 8, 8, 79.0)
    assert not any("recomputed" in name for name in figures)


@pytest.mark.parametrize("kind", KINDS)
def test_planned_bytes_are_what_torch_keeps(kind: str, tmp_path: Path) -> None:
    run, clips = config(tmp_path, kind), 16
    backbone = tiny_transformer(kind)
    x = torch.randn(clips, 3, 4, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    measured = saved_bytes(lambda: backbone(x), [*backbone.parameters(), *backbone.buffers(), x])
    planned = clip_memory(run.model, "fp32", frames=4, size=32).kept
    assert planned == pytest.approx(measured / clips, rel=0.1)
