"""Compilation: one graph, equal results, on several ranks too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from pal_ds.models import BatchNormGuard, batch_statistics, build_backbone, convert_sync_batchnorm
from pal_ds.models.layers.torch_compile import compile_backbone, is_compiled
from tests.support.full import rest
from tests.support.rank_pool import RankPool
from tests.support.tiny_models import tiny_batch, tiny_objective


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d", *rest(["tsm_resnet50"])])
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
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(clips), compiled.eval()(clips), rtol=1e-4, atol=1e-5)


def test_both_encoders_are_compiled_when_asked() -> None:
    objective = tiny_objective(compile=True)
    assert is_compiled(objective.query_encoder)
    assert is_compiled(objective.key_encoder)
    assert not is_compiled(tiny_objective())
    assert list(objective.state_dict()) == list(tiny_objective().state_dict())


def two_steps_on_rank(rank: int, compiled: bool) -> dict[str, Any]:
    """A step that calibrates, two that train and one that validates, with statistics guarded as in a run."""
    torch.compiler.reset()
    objective = tiny_objective(width=1 / 8, backbone="tsm_resnet8")
    convert_sync_batchnorm(objective)
    if compiled:
        compile_backbone(objective.query_encoder.get_submodule("backbone"), backend="aot_eager")
        compile_backbone(objective.key_encoder.get_submodule("backbone"), backend="aot_eager")
    guard = BatchNormGuard(objective)
    adam = torch.optim.Adam([each for each in objective.parameters() if each.requires_grad])
    with batch_statistics(objective):
        objective(tiny_batch(3, seed=10 + rank))
    losses = []
    for step in range(2):
        guard.save()
        output = objective(tiny_batch(3, seed=2 * step + rank))
        output.loss.backward()
        for parameter in objective.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
        adam.step()
        adam.zero_grad()
        objective.after_step(output.staged)
        losses.append(float(output.loss.detach()))
    objective.eval()
    with torch.no_grad():
        losses.append(float(objective(tiny_batch(3, seed=rank)).loss))
    return {"losses": losses, "means": objective.state_dict()["query_encoder.backbone.bn.running_mean"]}


@pytest.mark.slow
def test_two_ranks_compute_the_same_compiled(rank_pool: RankPool) -> None:
    plain = rank_pool.run(two_steps_on_rank, False)
    compiled = rank_pool.run(two_steps_on_rank, True)
    for expected, found in zip(plain, compiled, strict=True):
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-4)
        torch.testing.assert_close(found["means"], expected["means"], rtol=1e-4, atol=1e-5)
    assert plain[0]["losses"] != pytest.approx(plain[1]["losses"], rel=1e-4)
