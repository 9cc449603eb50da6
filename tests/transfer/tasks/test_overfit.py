"""Each head overfits to a small set, through the trainer that users run."""

import pytest

from pal_ds.config.loading import build
from pal_ds.config.transfer import TransferConfig
from pal_ds.transfer.head_trainer import train
from tests.support.synthetic_localization import make_set, write_queries

pytestmark = pytest.mark.slow

SMALL = {"snippets": 32, "durations": 32, "hidden_1d": 64, "hidden_2d": 32, "hidden_3d": 64}


def config(folder, head, **sections):
    tree = {
        "run": {"dir": str(folder / "run"), "epochs": 25, **sections.get("run", {})},
        "data": {
            "features": str(folder / "features"),
            "annotations": str(folder / "truth.json"),
            **sections.get("data", {}),
        },
        "head": {**sections.get("sizes", SMALL), "name": head},
        "optimizer": {
            "lr": 3e-3,
            "weight_decay": 0.0,
            "batch": 4,
            "drop_after": [20],
            **sections.get("optimizer", {}),
        },
        "post": sections.get("post", {}),
    }
    return build(TransferConfig, tree)


@pytest.mark.parametrize(("head", "boundary"), [("gtad", "none"), ("bmn", "product")])
def test_detection_heads_overfit(tmp_path, head, boundary):
    make_set(tmp_path)
    post = {"boundary": boundary, "sigma": 0.3, "classes": 1, "keep": 50}
    result = train("tad", config(tmp_path, head, post=post))
    assert result["figures"]["mAP"][0] >= 95


MOMENTS = {"snippets": 64, "hidden": 64, "levels": 4, "window": 9, "attention_heads": 4, "dropout": 0.0}


@pytest.mark.parametrize(("task", "grid"), [("tad", 0), ("apg", 32)])
def test_anchor_free_head_overfits(tmp_path, task, grid):
    make_set(tmp_path, grid=grid)
    post = {"boundary": "none", "sigma": 0.5, "keep": 100}
    schedule = {"lr": 2e-3, "drop_after": [30], "decoupled": True}
    settings = config(
        tmp_path, "actionformer", sizes=MOMENTS, run={"epochs": 40}, optimizer=schedule, post=post
    )
    figures = train(task, settings)["figures"]
    assert (figures["mAP"][0] if task == "tad" else figures["AR"]["100"]) >= 95


def test_proposal_head_overfits(tmp_path):
    make_set(tmp_path, grid=32)
    post = {"boundary": "product", "sigma": 0.75, "low": 0.65, "high": 0.9, "keep": 100}
    result = train("apg", config(tmp_path, "bmn", post=post))
    assert result["figures"]["AR"]["100"] >= 95


def test_grounding_head_overfits(tmp_path):
    queries = write_queries(make_set(tmp_path))
    lgi = {"snippets": 64, "hidden": 64, "word_dim": 32, "kernel": 5, "dropout": 0.0}
    settings = config(
        tmp_path,
        "lgi",
        data={"annotations": str(queries)},
        sizes=lgi,
        run={"epochs": 80},
        optimizer={"lr": 2e-3, "batch": 8, "drop_after": [50, 70]},
    )
    result = train("vg", settings)
    assert result["figures"]["R@1"]["0.7"] >= 95
