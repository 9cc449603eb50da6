"""Visual tempo: spans at two frame steps, four parts of a key, and the loss against a plain reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pal_ds.config.base import ConfigError
from pal_ds.config.objective import ObjectiveConfig, check_objective, check_views
from pal_ds.config.synthesis import SynthesisConfig
from pal_ds.models import convert_sync_batchnorm
from pal_ds.models.backbones.levels import kept_level, pooled
from pal_ds.models.objectives.vthcl import placed, slow_and_fast
from tests.models.objectives.test_playback_objectives import RUN, numbered_run
from tests.support.tiny_models import tiny_batch, tiny_model, tiny_objective


def vthcl(*, objective: dict[str, Any] | None = None, **options: Any) -> Any:
    return tiny_objective(objective={"name": "vthcl", **(objective or {})}, **options)


@pytest.mark.parametrize("speeds", [(1, 2), (1, 4), (2, 4)])
def test_slow_and_fast_clips_show_the_same_span(speeds: tuple[int, int]) -> None:
    slow, fast = slow_and_fast(numbered_run(8, 8), speeds)
    spans = 8 // speeds[1]
    assert slow.shape[:4] == (1, spans, 3, 8)
    assert fast.shape[:4] == (1, spans, 3, 8 * speeds[1] // speeds[0])
    for number in range(spans):
        begin = number * 8 * speeds[1]
        expected = torch.arange(begin, begin + 8 * speeds[1], dtype=torch.float32)
        assert torch.equal(slow[0, number, 0, :, 0, 0], expected[:: speeds[1]])
        assert torch.equal(fast[0, number, 0, :, 0, 0], expected[:: speeds[0]])


def vectors(encoder: Any, view: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """Unit vectors by (level, tempo), clip by clip through the backbone's own stages, in plain loops."""
    found: dict[tuple[int, int], torch.Tensor] = {}
    run = torch.cat([view[:, clip] for clip in range(view.shape[1])], dim=2)
    for tempo, step in enumerate((2, 1)):
        rows: dict[int, list[torch.Tensor]] = {0: [], 1: []}
        for span in range(4):
            clip = run[:, :, 16 * span : 16 * span + 16 : step]
            with kept_level(encoder.backbone, encoder.level.stage) as kept:
                upper = encoder.backbone(clip)
            rows[0].append(encoder.lower(pooled(kept[0], len(clip))))
            rows[1].append(encoder.upper(upper))
        for level, parts in rows.items():
            found[level, tempo] = F.normalize(torch.stack(parts).mean(dim=0), dim=1)
    return found


def freeze(objective: Any) -> None:
    """Fixed statistics, so that clips can be encoded one by one, in a loss of training mode."""
    for layer in objective.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.eval()


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_loss_is_the_mean_over_directions_and_levels(weight: float) -> None:
    objective = vthcl(objective={"level_weight": weight}).double()
    freeze(objective)
    batch = tiny_batch(3, dtype=torch.float64)
    with torch.no_grad():
        output = objective(batch)
        query, key = (
            vectors(objective.query_encoder, batch.query_bjcthw),
            vectors(objective.key_encoder, batch.key_bjcthw),
        )
    queue = objective.queue.keys.view(24, 4, 16)
    total = 0.0
    for level in (0, 1):
        for tempo in (0, 1):
            other = 1 - tempo
            for sample in range(3):
                positive = float(query[level, tempo][sample] @ key[level, other][sample])
                negatives = queue[:, 2 * level + other] @ query[level, tempo][sample]
                logits = torch.cat((torch.tensor([positive]), negatives)) / 0.07
                loss = float(-logits.log_softmax(0)[0])
                total += (weight if level == 0 else 1.0) * loss / (2 * 3 * (1 + weight))
    assert output.loss.item() == pytest.approx(total, rel=1e-6)
    staged = torch.stack([key[level, tempo] for level in (0, 1) for tempo in (0, 1)], dim=1)
    torch.testing.assert_close(output.staged, staged.flatten(1))


def test_a_query_meets_its_part_alone() -> None:
    query, key = torch.randn(2, 5), torch.randn(2, 4, 5)
    for part in range(4):
        torch.testing.assert_close(
            (placed(query, part) * key.flatten(1)).sum(dim=1), (query * key[:, part]).sum(dim=1)
        )


def test_random_rows_of_the_queue_are_unit_in_every_part() -> None:
    rows = vthcl().queue.keys.view(24, 4, 16)
    torch.testing.assert_close(rows.norm(dim=2), torch.ones(24, 4))


@pytest.mark.parametrize("negatives", ["queue", "batch", "both"])
def test_all_heads_train_and_the_key_encoder_follows(negatives: str) -> None:
    objective = vthcl(objective={"negatives": negatives}, momentum=0.5)
    output = objective(tiny_batch(3))
    output.loss.backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == name.startswith("query_encoder."), name
    before = objective.key_encoder.lower[0].weight.clone()
    with torch.no_grad():
        objective.query_encoder.lower[0].weight.add_(1.0)
    objective.after_step(output.staged)
    torch.testing.assert_close(objective.key_encoder.lower[0].weight, before + 0.5)


def test_validation_brings_four_terms_whose_weights_add_to_one() -> None:
    output = vthcl().eval()(tiny_batch(3))
    assert [term.main for term in output.terms] == [False, False, True, True]
    assert sum(term.weight for term in output.terms) == pytest.approx(1.0)
    assert output.staged.shape == (3, 64)
    assert output.features is not None


@pytest.mark.parametrize(
    ("objective", "synthesis", "field"),
    [
        ({"speeds": (1, 2, 4)}, RUN, "objective.speeds"),
        ({"speeds": (2, 3)}, RUN, "objective.speeds"),
        ({"speeds": (1, 3)}, RUN, "objective.speeds"),
        ({}, {**RUN, "views": 3}, "synthesis.views"),
        ({}, {}, "synthesis.paste"),
    ],
)
def test_views_without_two_tempos_are_refused(
    objective: dict[str, Any], synthesis: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_views(ObjectiveConfig(name="vthcl", **objective), SynthesisConfig(**synthesis), 8)
    assert caught.value.field == field


def test_what_has_no_effect_is_refused() -> None:
    from pal_ds.config.model import QueueConfig

    for options in ({"compile": True}, {"temporal_layers": 1}, {"symmetric": True}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            check_objective(ObjectiveConfig(name="vthcl"), tiny_model(**options), QueueConfig())


def test_levels_outlive_the_conversion_to_joint_statistics() -> None:
    objective = vthcl(backbone="tsm_resnet8")
    converted = convert_sync_batchnorm(objective).eval()
    assert converted(tiny_batch(2)).staged.shape == (2, 64)
