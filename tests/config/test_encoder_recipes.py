"""The recipes for encoders of transformers: each loads, names its sources, and fits eight GPUs of 80 GB."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pal_ds.config import Config, ConfigError, load_config
from pal_ds.config.encoders import encoder_of
from pal_ds.config.shipped_configs import shipped
from pal_ds.planning.hardware import GPUS
from pal_ds.planning.memory import GIB, memory_need
from tests.support.encoders import published_folder

RECIPES = {
    "pal_videomae_b": "videomae-base",
    "pal_vjepa2_l": "vjepa2-vitl-fpc64-256",
    "pal_dinov2_s": "dinov2-small",
}
PLACES = ["data.shards=/shards", "run.dir=/run"]


def recipe(name: str, folder: Path) -> Config:
    return load_config(name, [*PLACES, f"model.backbone={published_folder(folder, RECIPES[name])}"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_loads_and_says_where_every_line_comes_from(name: str, tmp_path: Path) -> None:
    config = recipe(name, tmp_path)
    assert (config.synthesis.clip_frames, config.synthesis.size) == (16, 224)
    assert config.synthesis.stride_seconds == (0.0333, 0.1333)
    assert encoder_of(config.model.encoder).layers in (12, 24)
    # What lets the first loss say something: no random rows, the batch's own keys, centred features.
    assert config.queue.mask_unfilled and config.objective.negatives == "both" and config.model.head_bn
    text = shipped()[name].read_text()
    settings = [line for line in text.splitlines() if re.match(r" +\w+: ", line)]
    assert [line for line in settings if not re.search(r"# .*\[[A-Z]\]|# the folder", line)] == []


@pytest.mark.parametrize("name", RECIPES)
def test_without_the_folder_a_recipe_says_what_to_give(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"give hf: and a local folder") as caught:
        load_config(name, PLACES)
    assert caught.value.field == "model.backbone"


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_eight_gpus_of_80_gb(name: str, tmp_path: Path) -> None:
    config = recipe(name, tmp_path)
    if name == "pal_vjepa2_l":
        # All 24 blocks take long to trace; where all are recomputed, each adds its input and its weights alone.
        folder = published_folder(tmp_path / "short", RECIPES[name], num_hidden_layers=4)
        config = load_config(name, [*PLACES, f"model.backbone={folder}", "model.recompute_stages=4"])
    need, capacity = memory_need(config, 8), GPUS["h100"].memory_gib * GIB
    videos = config.data.global_batch // config.data.accumulation // 8
    assert videos % config.data.group_size == 0
    assert 0.1 * capacity < need.total(videos) < 0.9 * capacity
