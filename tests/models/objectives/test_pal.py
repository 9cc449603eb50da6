"""The PAL objective and MoCo: purity, updates, options, precision, accumulation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pal_ds.models import Objective, ViewBatch
from pal_ds.models.layers.projection_heads import region_embedding
from pal_ds.models.objectives.pal import EncodedView, PalObjective, matched_clips
from pal_ds.models.ssl.info_nce import info_nce
from tests.support.tiny_models import CLIPS, rows, tiny_batch, tiny_objective


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}


def freeze_statistics(module: torch.nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


def step(objective: PalObjective, optimizer: torch.optim.Optimizer, samples: int, seed: int) -> float:
    output = objective(tiny_batch(samples, seed=seed))
    optimizer.zero_grad()
    output.loss.backward()
    optimizer.step()
    objective.after_step(output.staged)
    return output.loss.item()


def trainable(objective: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in objective.parameters() if parameter.requires_grad]


def test_state_layout() -> None:
    objective = tiny_objective()
    state = objective.state_dict()
    assert {name.split(".")[0] for name in state} == {"query_encoder", "key_encoder", "queue"}
    assert {name.split(".")[1] for name in state if "encoder" in name} == {
        "backbone",
        "projector",
        "temporal",
    }
    assert state["queue.keys"].shape == (24, 16)
    assert state["queue.keys"].dtype == torch.float32
    assert state["queue.pointer"].dtype == state["queue.filled"].dtype == torch.int64
    prefix = "query_encoder.backbone."
    bare = {name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    assert bare == set(objective.backbone.state_dict())


def test_only_the_query_encoder_trains_and_all_of_it_does() -> None:
    objective = tiny_objective()
    objective(tiny_batch(2)).loss.backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == name.startswith("query_encoder."), name


def test_forward_changes_only_running_statistics() -> None:
    objective = tiny_objective()
    before = snapshot(objective)
    output = objective(tiny_batch(2))
    moved = changed(before, objective)
    assert moved
    assert all(
        name.rpartition(".")[2] in {"running_mean", "running_var", "num_batches_tracked"} for name in moved
    )
    assert output.loss.dtype == torch.float32
    assert output.staged.shape == (2, 16)
    assert not output.staged.requires_grad
    assert not any(value.requires_grad for value in output.metrics.values())


def test_eval_changes_nothing_and_says_where_the_region_was_found() -> None:
    objective = tiny_objective().eval()
    before = snapshot(objective)
    metrics = objective(tiny_batch(3)).metrics
    assert not changed(before, objective)
    assert 0 <= metrics["localisation_iou"].item() <= 1
    assert 0 < metrics["localisation_iou_chance"].item() < 1
    assert {"alignment", "uniformity", "feature_std"} <= set(metrics)


def test_after_step_moves_key_weights_and_queue_once() -> None:
    objective = tiny_objective(momentum=0.9)
    for parameter in trainable(objective):
        parameter.data.add_(1.0)
    before = snapshot(objective)
    staged = torch.randn(5, 16)
    objective.after_step(staged)
    moved = changed(before, objective)
    assert {name for name in moved if name.startswith("queue.")} == {
        "queue.keys",
        "queue.pointer",
        "queue.filled",
    }
    assert torch.equal(objective.queue.keys[:5], staged)
    assert objective.queue_fill == 5 / 24
    names = {name for name, _ in objective.key_encoder.named_parameters()}
    assert {name.removeprefix("key_encoder.") for name in moved if name.startswith("key_encoder.")} == names
    for name, value in objective.key_encoder.named_parameters():
        torch.testing.assert_close(value, before[f"key_encoder.{name}"] + 0.1, rtol=1e-4, atol=1e-5)


def test_after_step_wants_keys_exactly_where_there_is_a_queue() -> None:
    with pytest.raises(ValueError, match="queue"):
        tiny_objective().after_step(None)
    with pytest.raises(ValueError, match="queue"):
        tiny_objective(objective={"negatives": "batch"}).after_step(torch.randn(2, 16))


def test_masked_queue_starts_at_zero_loss_and_learns_from_the_second_step() -> None:
    objective = tiny_objective(mask_unfilled=True)
    optimizer = torch.optim.Adam(trainable(objective), 1e-3)
    assert step(objective, optimizer, 2, 0) == 0.0
    assert step(objective, optimizer, 2, 1) > 0.0


def test_training_learns_a_fixed_batch() -> None:
    objective = tiny_objective(queue_size=16, momentum=0.9)
    optimizer = torch.optim.Adam(trainable(objective), 3e-3)
    batch = tiny_batch(4)
    batch.key_bjcthw = batch.query_bjcthw.clone()
    batch.key_region_b2 = batch.query_region_b2.clone()
    losses = []
    for _ in range(25):
        output = objective(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.momentum.update(objective.key_encoder, objective.query_encoder)
        losses.append(output.loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_accumulation_equals_one_large_batch_with_frozen_statistics() -> None:
    whole = tiny_objective().double()
    freeze_statistics(whole)
    parts = copy.deepcopy(whole)
    for seed in range(2):
        batch = tiny_batch(4, seed=seed, frames=4, side=16, dtype=torch.float64)
        outputs = [[whole(batch)], [parts(rows(batch, start, start + 1)) for start in range(4)]]
        for objective, micro in zip((whole, parts), outputs, strict=True):
            objective.zero_grad()
            sum(output.loss / len(micro) for output in micro).backward()
            with torch.no_grad():
                for parameter in trainable(objective):
                    parameter.sub_(0.01 * parameter.grad)
            objective.after_step(torch.cat([output.staged for output in micro]))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_state_and_loss_in_fp32(dtype: torch.dtype) -> None:
    objective = tiny_objective()
    optimizer = torch.optim.Adam(trainable(objective), 1e-3)
    before = snapshot(objective)
    for seed in range(2):
        with torch.autocast("cpu", dtype=dtype):
            output = objective(tiny_batch(2, seed=seed))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(output.staged)
    assert output.loss.dtype == output.staged.dtype == torch.float32
    torch.testing.assert_close(output.staged.norm(dim=1), torch.ones(2), rtol=1e-5, atol=1e-5)
    for name, value in objective.state_dict().items():
        assert value.dtype == before[name].dtype, name
        assert value.isfinite().all(), name


def test_autocast_is_close_to_fp32() -> None:
    objective = tiny_objective().eval()
    plain = objective(tiny_batch(2)).staged
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = objective(tiny_batch(2)).staged
    assert (plain * cast).sum(dim=1).min() > 0.99


def test_symmetric_loss_is_the_mean_of_both_ways() -> None:
    one_way, both = tiny_objective().eval(), tiny_objective(symmetric=True).eval()
    batch = tiny_batch(3)
    turned = copy.deepcopy(batch)
    turned.query_bjcthw, turned.key_bjcthw = batch.key_bjcthw, batch.query_bjcthw
    turned.query_region_b2, turned.key_region_b2 = batch.key_region_b2, batch.query_region_b2
    output = both(batch)
    torch.testing.assert_close(output.loss, (one_way(batch).loss + one_way(turned).loss) / 2)
    assert torch.equal(output.staged, one_way(batch).staged)


def test_more_keys_are_more_positives_of_the_same_query() -> None:
    objective = tiny_objective().eval()
    first, second = tiny_batch(3, seed=0), tiny_batch(3, seed=1)
    both = copy.deepcopy(first)
    both.more_keys = ((second.key_bjcthw, second.key_region_b2),)
    other = copy.deepcopy(first)
    other.key_bjcthw, other.key_region_b2 = second.key_bjcthw, second.key_region_b2
    output, one, two = objective(both), objective(first), objective(other)
    torch.testing.assert_close(output.loss, (one.loss + two.loss) / 2)
    for name, value in output.metrics.items():
        torch.testing.assert_close(value, (one.metrics[name] + two.metrics[name]) / 2, msg=name)
    assert torch.equal(output.staged, one.staged), "the first key of a sample is queued"


def test_a_missing_key_view_is_named() -> None:
    batch = tiny_batch(2)
    batch.key_bjcthw = None
    with pytest.raises(ValueError, match=r"synthesis\.views = 1"):
        tiny_objective()(batch)


def test_eval_gives_backbone_features_of_the_region() -> None:
    objective = tiny_objective()
    batch = tiny_batch(2)
    assert objective(batch).features is None
    features = objective.eval()(batch).features
    start, length = batch.query_region_b2[0].tolist()
    clips = batch.query_bjcthw[0, start : start + length]
    torch.testing.assert_close(features[0], objective.backbone(clips).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_batch_negatives_are_the_other_samples() -> None:
    objective = tiny_objective(objective={"negatives": "batch"})
    freeze_statistics(objective)
    assert not any(name.startswith("queue") for name in objective.state_dict())
    batch = tiny_batch(3)
    output = objective(batch)
    query = objective.encode_query(batch.query_bjcthw, batch.query_region_b2).region_bd
    key = objective.encode_key(batch.key_bjcthw, batch.key_region_b2).region_bd
    expected = torch.nn.functional.cross_entropy(query @ key.T / 0.07, torch.arange(3))
    torch.testing.assert_close(output.loss, expected)
    assert output.staged is None
    assert objective.queue_fill == 1.0
    objective.after_step(None)


def test_both_negatives_join_queue_and_batch() -> None:
    options: dict[str, Any] = {"queue_size": 6, "mask_unfilled": True}
    both = tiny_objective(objective={"negatives": "both"}, **options)
    batch_only = tiny_objective(objective={"negatives": "batch"}, queue_size=6)
    for objective in (both, batch_only):
        freeze_statistics(objective)
    torch.testing.assert_close(both(tiny_batch(3)).loss, batch_only(tiny_batch(3)).loss)
    both.after_step(torch.nn.functional.normalize(torch.randn(2, 16), dim=1))
    batch_only.after_step(None)
    assert both(tiny_batch(3)).loss > batch_only(tiny_batch(3)).loss


def test_dense_term_adds_its_weighted_loss() -> None:
    plain = tiny_objective()
    dense = tiny_objective(objective={"dense_weight": 0.5})
    for objective in (plain, dense):
        freeze_statistics(objective)
    output = dense(tiny_batch(3))
    expected = plain(tiny_batch(3)).loss + 0.5 * output.metrics["dense_loss"]
    torch.testing.assert_close(output.loss, expected)


def test_dense_term_works_with_batch_negatives() -> None:
    objective = tiny_objective(objective={"dense_weight": 0.5, "negatives": "batch"})
    assert objective(tiny_batch(3)).loss.isfinite()


def test_matched_clips_share_the_relative_position() -> None:
    position = torch.arange(CLIPS).float()
    sequence = torch.stack((position + 1, torch.ones(CLIPS)), dim=1)[None]

    def view(start: int, length: int) -> EncodedView:
        region = torch.tensor([[start, length]])
        return EncodedView(
            sequence_bjd=sequence, region_b2=region, region_bd=region_embedding(sequence, region)
        )

    query, key, sample = matched_clips(view(0, 4), view(6, 2))
    clip = lambda vectors: (vectors[:, 0] / vectors[:, 1] - 1).round().long().tolist()  # noqa: E731
    assert clip(query) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert clip(key) == [6, 6, 6, 6, 7, 7, 7, 7]
    assert sample.tolist() == [0] * CLIPS


def test_moco_sees_the_whole_sequence_and_no_temporal_head() -> None:
    objective = tiny_objective(objective={"name": "moco"}).eval()
    assert not any(".temporal." in name for name in objective.state_dict())
    batch = tiny_batch(3)
    loss = objective(batch).loss
    batch.query_region_b2[:] = torch.tensor([2, 1])
    assert torch.equal(objective(batch).loss, loss)
    assert "localisation_iou" not in objective(batch).metrics
    query = objective.encode_query(batch.query_bjcthw, batch.query_region_b2)
    sequence = torch.nn.functional.normalize(query.sequence_bjd, dim=-1)
    expected = torch.nn.functional.normalize(sequence.mean(dim=1), dim=-1)
    torch.testing.assert_close(query.region_bd, expected)


def test_state_round_trip_continues_identically() -> None:
    first = tiny_objective(momentum_steps=10)
    optimizer = torch.optim.SGD(trainable(first), 0.1)
    step(first, optimizer, 2, 0)
    second = tiny_objective(seed=1, momentum_steps=10)
    second.load_state_dict(first.state_dict(), strict=True)
    for seed in (1, 2):
        losses = [
            step(objective, torch.optim.SGD(trainable(objective), 0.1), 2, seed)
            for objective in (first, second)
        ]
        assert losses[0] == losses[1]
    assert not changed(snapshot(first), second)


def test_equal_seeds_build_equal_objectives() -> None:
    assert not changed(snapshot(tiny_objective(seed=3)), tiny_objective(seed=3))
    assert changed(snapshot(tiny_objective(seed=3)), tiny_objective(seed=4))


def test_warm_start_reaches_both_encoders() -> None:
    source, target = tiny_objective(seed=1), tiny_objective(seed=2)
    target.warm_start(source.backbone.state_dict(), source="test")
    for encoder in (target.query_encoder, target.key_encoder):
        assert not changed(snapshot(source.backbone), encoder.backbone)


def weighed_loss(objective: Objective, batch: ViewBatch, negatives_nd: torch.Tensor) -> float:
    """What validation makes of the terms, with given negatives."""
    output = objective(batch)
    parts = [
        term.weight * info_nce(term.query_md, term.key_md, negatives_nd, temperature=term.temperature).loss
        for term in output.terms
    ]
    return float(output.loss + sum(parts))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"symmetric": True},
        {"objective": {"dense_weight": 0.4}},
        {"symmetric": True, "objective": {"dense_weight": 0.4}},
        {"objective": {"name": "moco"}},
        {"objective": {"name": "rspnet"}},
    ],
)
def test_terms_of_eval_mode_add_up_to_the_loss_of_training(options: dict[str, Any]) -> None:
    objective = tiny_objective(**options)
    batch = tiny_batch(3)
    objective.eval()
    with torch.no_grad():
        found = weighed_loss(objective, batch, objective.queue.keys)
        objective.training = True  # the branches of training, over layers that are in eval mode
        expected = float(objective(batch).loss)
    assert found == pytest.approx(expected, rel=1e-5)


def test_clips_of_one_recording_are_left_out_where_asked() -> None:
    objective = tiny_objective(
        final_relu=False, objective={"negatives": "both", "same_recording_negatives": False}
    )
    batch = tiny_batch(3)
    with pytest.raises(ValueError, match="recordings"):
        objective(batch)
    batch.recordings_b = torch.tensor([1, 1, 2])
    key_bd = objective(batch).staged
    _, excluded = objective.negatives(key_bd, batch.recordings_b)
    assert excluded[:, -3:].tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    objective.after_step(key_bd, batch.recordings_b)
    _, excluded = objective.negatives(key_bd, torch.tensor([2, 3, 1]))
    assert excluded[:, :3].tolist() == [[False, False, True], [False, False, False], [True, True, False]]
