"""Compilation: one graph, equal results, refused where it can't work."""

from __future__ import annotations

import os

import pytest
import torch

from pal_ds.models import build_backbone, convert_sync_batchnorm
from pal_ds.models.layers.torch_compile import compile_backbone, is_compiled
from tests.support.rank_pool import RankPool
from tests.support.tiny_models import tiny_objective


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d", *(["tsm_resnet50"] if os.environ.get("PAL_TEST_FULL") else [])])
def test_the_whole_backbone_is_one_graph_with_equal_features(name: str) -> None:
    torch.compiler.reset()
    plain, compiled = build_backbone(name, width=1 / 16), build_backbone(name, width=1 / 16)
    compiled.load_state_dict(plain.state_dict())
    # Traced and split into forward and backward as in production; only code generation is left out.
    compile_backbone(compiled, backend="aot_eager")
    clips = torch.randn(2, 3, 8, 32, 32)
    for backbone in (plain, compiled):
        backbone(clips).square().sum().backward()
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for (key, value), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        scale = float(value.grad.abs().max())
        torch.testing.assert_close(value.grad, other.grad, rtol=0, atol=1e-3 * scale + 1e-6, msg=key)
    torch.testing.assert_close(plain.eval()(clips), compiled.eval()(clips), rtol=1e-4, atol=1e-5)


def test_both_encoders_are_compiled_when_asked() -> None:
    objective = tiny_objective(compile=True)
    assert is_compiled(objective.query_encoder)
    assert is_compiled(objective.key_encoder)
    assert not is_compiled(tiny_objective())
    assert list(objective.state_dict()) == list(tiny_objective().state_dict())


def convert_compiled(rank: int) -> str:
    del rank
    try:
        convert_sync_batchnorm(tiny_objective(compile=True))
    except ValueError as error:
        return str(error)
    return "converted"


def test_several_ranks_refuse_a_compiled_backbone(rank_pool: RankPool) -> None:
    assert all("set model.compile=false" in answer for answer in rank_pool.run(convert_compiled))
