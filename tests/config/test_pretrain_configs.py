"""The shipped pre-training configs: each loads, says what it is, and differs from its base where it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pal_ds.config import Config, load_config, to_tree
from pal_ds.models import ViewBatch, build_objective

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "pretrain"
#: Those that need the folder of an encoder are in test_encoder_recipes.py.
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if "backbone: hf:" not in path.read_text())
NAMES = [str(path.relative_to(FOLDER)) for path in FILES]
PLACES = ["data.shards=/shards", "run.dir=/run"]

#: Objectives that need a labelled set.
LABELLED = ("supervised", "bsp", "tsp")
#: Rows of Tables 3, 4, 5: the paper's average mAP, and every setting that is not the full method's at 100 epochs.
MOCO = {
    "objective.name": "moco",
    "synthesis.paste": "none",
    "synthesis.region_min": 8,
    "synthesis.region_max": 8,
    "synthesis.stride_min": 2,
    "synthesis.stride_max": 2,
}
DENSE = {name: value for name, value in MOCO.items() if name != "objective.name"}
SCALE = {"synthesis.paste": "own", "synthesis.beta_min": 1.0}
ROWS: dict[str, tuple[float, dict[str, Any]]] = {
    "table3_0_moco": (29.6, MOCO),
    "table3_1_dense": (30.1, DENSE),
    "table3_2_dense_scale": (30.7, SCALE),
    "table3_3_paste_same": (32.1, {"synthesis.paste": "same"}),
    "table3_4_paste_different": (32.8, {}),
    "table4_temporal_0": (30.8, {"model.temporal_layers": 0}),
    "table4_temporal_1": (32.1, {"model.temporal_layers": 1}),
    "table4_temporal_2": (32.8, {}),
    "table4_temporal_3": (32.5, {"model.temporal_layers": 3}),
    "table5_beta_1": (32.2, {"synthesis.beta_min": 1.0}),
    "table5_beta_00_04": (30.7, {"synthesis.beta_min": 0.0, "synthesis.beta_max": 0.4}),
    "table5_beta_04_06": (31.5, {"synthesis.beta_min": 0.4, "synthesis.beta_max": 0.6}),
    "table5_beta_06_10": (32.8, {}),
    "table5_beta_00_10": (31.3, {"synthesis.beta_min": 0.0}),
}


def load(path: Path, *more: str) -> Config:
    return load_config(path, [*PLACES, *more])


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def changed(config: Config, base: Config) -> dict[str, Any]:
    """The options of a config that differ from another's."""
    before = flat(to_tree(base))
    return {name: value for name, value in flat(to_tree(config)).items() if value != before[name]}


def test_all_rows_of_the_papers_tables_are_there() -> None:
    files = {path.stem for path in (FOLDER / "ablations").glob("*.yaml")}
    assert files == {*ROWS, "pal_100ep"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_config_differs_from_its_base_exactly_in_what_it_names(path: Path) -> None:
    own = yaml.safe_load(path.read_text())
    base = own.pop("base", None)
    config = load(path)
    if base is None:
        assert path.name == "pal_i3d_k400.yaml"
        assert flat(own).items() <= flat(to_tree(config)).items()
        return
    assert changed(config, load(path.parent / base)) == flat(own)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_the_full_method_but_for_its_switch(name: str) -> None:
    number, settings = ROWS[name]
    path = FOLDER / "ablations" / f"{name}.yaml"
    assert changed(load(path), load(FOLDER / "ablations" / "pal_100ep.yaml")) == settings
    head = path.read_text().splitlines()[0]
    table = name[len("table")]
    assert head.startswith(f"# Table {table}")
    assert f"Paper: {number}." in head


def test_ablations_are_the_papers_run_at_half_its_length() -> None:
    paper, short = load(FOLDER / "pal_i3d_k400.yaml"), load(FOLDER / "ablations" / "pal_100ep.yaml")
    assert changed(short, paper) == {"run.epochs": 100}


def test_the_paper_config_is_the_paper() -> None:
    config = load(FOLDER / "pal_i3d_k400.yaml")
    assert (config.run.epochs, config.data.global_batch, config.queue.size) == (200, 512, 16384)
    assert (config.synthesis.clips, config.synthesis.clip_frames, config.synthesis.size) == (8, 8, 112)
    assert (config.synthesis.region_max, config.synthesis.stride_min, config.synthesis.stride_max) == (
        6,
        1,
        4,
    )
    assert (config.synthesis.beta_min, config.synthesis.beta_max) == (0.6, 1.0)
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.optimizer.clip) == (1e-4, 1e-5, 0.0)
    assert (config.schedule.name, config.schedule.factor) == ("plateau", 0.1)
    assert (config.model.temperature, config.model.temporal_layers, config.model.final_relu) == (
        0.07,
        2,
        True,
    )
    assert config.augment.grey_p == 0.0


def test_every_setting_of_the_paper_config_names_its_source() -> None:
    lines = (FOLDER / "pal_i3d_k400.yaml").read_text().splitlines()
    settings = [line for line in lines if not line.startswith("#") and line.partition(":")[2].strip()]
    assert len(settings) > 40
    assert [line for line in settings if not any(f"# [{grade}]" in line for grade in "PDSJ")] == []


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_config_trains_a_narrow_network_on_its_views(path: Path) -> None:
    config = load(path, "model.width=0.0625", "queue.size=16")
    objective = build_objective(config.objective, config.model, config.queue, num_classes=3)
    synthesis = config.synthesis
    shape = (2, synthesis.view_clips, 3, synthesis.clip_frames, 32, 32)
    region = torch.tensor([[synthesis.view_clips - synthesis.region_max, synthesis.region_max]] * 2)
    keys = [(torch.randn(shape), region) for _ in range(synthesis.views - 1)]
    first = keys[0] if keys else (None, None)
    batch = ViewBatch(
        query_bjcthw=torch.randn(shape),
        query_region_b2=region,
        key_bjcthw=first[0],
        key_region_b2=first[1],
        more_keys=tuple(keys[1:]),
        labels_b=torch.tensor([0, 2]) if config.objective.name in LABELLED else None,
        boundaries_b=torch.tensor([0, 3]) if config.objective.name == "bsp" else None,
    )
    loss = objective(batch).loss
    loss.backward()
    missing = [
        name for name, value in objective.named_parameters() if value.requires_grad and value.grad is None
    ]
    assert torch.isfinite(loss)
    assert missing == []
