"""Supervised classification: loss, labels, training."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.tiny_models import tiny_batch, tiny_objective


def supervised(**options: float) -> torch.nn.Module:
    return tiny_objective(objective={"name": "supervised", **options}, num_classes=3, embedding_dim=128)


def test_loss_is_the_clip_wise_cross_entropy_in_training() -> None:
    objective = supervised(dropout=0.0, label_smoothing=0.1)
    batch = tiny_batch(4)
    for layer in objective.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.eval()
    _, logits = objective.query_encoder(batch.query_bjcthw)
    target = batch.labels_b.repeat_interleave(8)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target, label_smoothing=0.1)
    torch.testing.assert_close(objective(batch).loss, expected)


def test_eval_averages_the_clips_of_a_video() -> None:
    objective = supervised().eval()
    batch = tiny_batch(4)
    _, logits = objective.query_encoder(batch.query_bjcthw)
    output = objective(batch)
    torch.testing.assert_close(
        output.loss, torch.nn.functional.cross_entropy(logits.mean(dim=1), batch.labels_b)
    )
    assert output.staged is None
    loss_b, hit_b = output.scores
    assert output.loss.item() == pytest.approx(loss_b.mean().item())
    assert output.metrics["top1"].item() == pytest.approx(hit_b.mean().item())
    assert output.metrics["chance_loss"].item() == pytest.approx(math.log(3), rel=1e-5)
    assert output.metrics["chance_top1"].item() == pytest.approx(1 / 3)


def test_training_fits_the_labels() -> None:
    objective = supervised(dropout=0.0)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    batch = tiny_batch(4)
    for _ in range(20):
        output = objective(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(None)
    assert output.metrics["top1"].item() > 0.9


def test_state_holds_the_backbone_where_exports_look() -> None:
    names = {name.split(".")[1] for name in supervised().state_dict()}
    assert names == {"backbone", "classifier"}
    assert supervised().queue_fill == 1.0


def test_missing_labels_and_classes_are_refused() -> None:
    batch = tiny_batch(2)
    batch.labels_b = None
    with pytest.raises(ValueError, match="with-labels"):
        supervised()(batch)
    with pytest.raises(ValueError, match="with-labels"):
        tiny_objective(objective={"name": "supervised"}, embedding_dim=128)
