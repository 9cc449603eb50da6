"""Objectives of Table 1 through the real trainer: a stopped run goes on bit by bit, ranks see the same batches."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pal_ds.formats.checkpoint import COMMITTED, checkpoint_name
from pal_ds.formats.recording import recording_number
from tests.support.full import FULL, rest
from tests.support.launching import Launcher, assert_equal_states, state_of, training_rows, words

pytestmark = pytest.mark.slow

WHOLE = ["synthesis.paste=none", "synthesis.region_min=4", "synthesis.region_max=4", "synthesis.stride_max=1"]
#: The demonstration's contrast off, where there is none.
CLASSIFIER = [
    "synthesis.views=1",
    "queue.mask_unfilled=false",
    "model.embedding_dim=128",
    "model.head_bn=false",
]
CLASSIFIER += ["model.final_relu=true", "model.norm=clip_and_region", "model.momentum=0.999"]
CLASSIFIER += ["model.temperature=0.07", "objective.dropout=0.0"]
BOUNDARY = ["synthesis.paste=boundary", "synthesis.beta_min=1.0", "synthesis.background_stride=4"]
PEERS = {
    "bsp": [*CLASSIFIER, *BOUNDARY],
    "tsp": [*CLASSIFIER, *WHOLE, "objective.background='0'"],
    "vthcl": [*WHOLE, "model.norm=clip_and_region", "model.final_relu=true"],
}


@pytest.mark.parametrize("name", ["bsp", "vthcl", *rest(["tsp"])])
def test_a_peer_goes_on_bit_by_bit(name: str, tiny_set: Path, launcher: Launcher, tmp_path: Path) -> None:
    settings = [
        f"objective.name={name}",
        *PEERS[name],
        "checkpoint.every_steps=2",
        "validation.every_steps=4",
    ]
    if name == "tsp":
        numbers = torch.tensor([recording_number(f"clip-{number:02d}.mp4") for number in range(40)])
        features = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
        save_file({"recordings": numbers, "features": features}, tmp_path / "gvf.safetensors")
        settings.append(f"objective.gvf={tmp_path / 'gvf.safetensors'}")

    def train(run: str, steps: int, ranks: int) -> str:
        done = launcher.run_ranks(ranks, words(tiny_set, tmp_path / run, *settings, f"run.max_steps={steps}"))
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    # Steps 1 to 4 are one epoch: both halves are in its middle.
    train("whole", 4, 1)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / "checkpoints" / checkpoint_name(4) / COMMITTED).unlink()
    assert "resuming at step 2" in train("parts", 4, 1)
    assert_equal_states(state_of(tmp_path / "whole", 4), state_of(tmp_path / "parts", 4))
    one, two = training_rows(tmp_path / "whole"), training_rows(tmp_path / "parts")
    assert [row["loss"] for row in one.values()] == [row["loss"] for row in two.values()]
    if name == "bsp" and FULL:
        train("ranks", 2, 2)
        ranks = training_rows(tmp_path / "ranks")
        for step, row in ranks.items():
            assert row["batch_hash"] == one[step]["batch_hash"]
            assert row["loss"] == pytest.approx(one[step]["loss"], rel=1e-3)
        assert {name for name in one[1] if name.startswith("share_")} == {
            *("share_different_class", "share_same_class", "share_different_speed", "share_same_speed"),
        }
