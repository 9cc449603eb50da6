"""Readouts of transformers: a layer as the encoder itself pools it, several in one pass, half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from pal_ds.config.model import ModelConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.transfer.extraction.readouts import ReadoutRun, parse_readouts
from tests.support.encoders import KINDS, hub_state, write_folder

CLIPS = torch.randn(3, 3, 4, 32, 32)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_layer_is_what_the_encoder_pools_there(kind: str, tmp_path: Path) -> None:
    place = write_folder(tmp_path, kind, hub_state(kind))
    torch.manual_seed(0)
    whole = backbone_of(ModelConfig(backbone=place)).eval()
    cut = backbone_of(ModelConfig(backbone=place, pooling="layer:1")).eval()
    cut.load_state_dict({name: whole.state_dict()[name] for name in cut.state_dict()})
    _, layer, tokens = ReadoutRun(whole, parse_readouts(["output", "layer:1", "tokens:1"]))(CLIPS)
    assert layer.shape == (3, 32) and tokens.shape[0] == 3 and tokens.shape[-1] == 32
    torch.testing.assert_close(tokens.flatten(1, -2).mean(dim=1), layer)
    torch.testing.assert_close(cut(CLIPS), whole.norm(layer) if whole._pooled_norm else layer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_features_point_where_those_of_fp32_do(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    backbone = backbone_of(ModelConfig(backbone=write_folder(tmp_path, kind, hub_state(kind)))).eval()
    expected = backbone(CLIPS)
    with torch.autocast("cpu", dtype):
        found = backbone(CLIPS).float()
    assert F.cosine_similarity(found, expected).min() >= 0.999
