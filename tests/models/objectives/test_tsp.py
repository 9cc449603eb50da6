"""TSP: labels of clips, global video features, loss against a plain reference, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch.nn import functional as F

from pal_ds.config.base import ConfigError
from pal_ds.config.model import QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models import build_objective
from tests.support.tiny_models import tiny_batch, tiny_model, tiny_objective

LABELS = ("apple", "background", "cherry")


def tsp(*, labels: tuple[str, ...] | None = LABELS, table: bytes | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    if table is not None:
        options["gvf"] = "gvf.safetensors"
    objective = build_objective(
        ObjectiveConfig(name="tsp", **{"dropout": 0.0, **options}),
        tiny_model(embedding_dim=128),
        QueueConfig(size=8),
        labels=labels,
    )
    objective.read_tables(lambda url: {"gvf.safetensors": table}[url] or b"")
    return objective


def batch_of() -> Any:
    batch = tiny_batch(5)
    batch.query_bjcthw = batch.query_bjcthw[:, :2].contiguous()
    return dataclasses.replace(
        batch, labels_b=torch.tensor([0, 1, 2, 1, 2]), recordings_b=torch.tensor([7, 5, 7, 9, 5])
    )


def table_of(numbers: list[int]) -> tuple[bytes, torch.Tensor]:
    features = torch.randn(len(numbers), 6)
    return save({"recordings": torch.tensor(numbers), "features": features}), features


@pytest.mark.parametrize("with_table", [False, True])
def test_loss_is_region_plus_weighted_action_of_action_clips(with_table: bool) -> None:
    table, features = table_of([9, 7, 5])
    objective = tsp(table=table if with_table else None, class_weight=0.5).eval()
    batch, encoder = batch_of(), objective.query_encoder
    rows = {9: features[0], 7: features[1], 5: features[2]}
    loss_b = []
    for sample in range(5):
        label, recording = int(batch.labels_b[sample]), int(batch.recordings_b[sample])
        loss = 0.0
        for clip in range(2):
            vector = encoder.backbone(batch.query_bjcthw[sample, clip][None])[0].detach()
            seen = torch.cat((vector, rows[recording])) if with_table else vector
            inside = int(LABELS[label] != "background")
            loss += float(F.cross_entropy(encoder.region(seen), torch.tensor(inside))) / 2
            if inside:
                # Class numbers leave the background out: apple 0, cherry 1.
                number = torch.tensor({"apple": 0, "cherry": 1}[LABELS[label]])
                loss += 0.5 * float(F.cross_entropy(encoder.action(vector), number)) / 2
        loss_b.append(loss)
    output = objective(batch)
    assert output.loss.item() == pytest.approx(sum(loss_b) / 5, rel=1e-4)
    torch.testing.assert_close(output.scores[0], torch.tensor(loss_b), rtol=1e-4, atol=1e-5)
    assert output.metrics["foreground"].item() == pytest.approx(0.6)
    chance = (1 + 0.5 * 0.6) * math.log(2)
    assert output.metrics["chance_loss"].item() == pytest.approx(chance, rel=1e-5)
    assert objective.train()(batch).metrics["chance_loss"].item() == pytest.approx(chance, rel=1e-5)


def test_every_trained_parameter_gets_a_gradient() -> None:
    objective = tsp(table=table_of([5, 7, 9])[0])
    objective(batch_of()).loss.backward()
    assert [name for name, value in objective.named_parameters() if value.grad is None] == []


def test_the_table_is_saved_with_the_run_and_restored() -> None:
    table, _ = table_of([9, 7, 5])
    one, two = tsp(table=table), tsp(table=table_of([9, 7, 5])[0])
    two.load_state_dict(one.state_dict(), strict=True)
    batch = batch_of()
    assert torch.equal(one.eval()(batch).loss, two.eval()(batch).loss)


def test_a_recording_without_global_feature_stops_the_run() -> None:
    objective = tsp(table=table_of([5, 7])[0])
    with pytest.raises(RuntimeError, match=r"objective\.gvf"):
        objective(batch_of())
    with pytest.raises(ValueError, match="recordings"):
        objective(dataclasses.replace(batch_of(), recordings_b=None))


@pytest.mark.parametrize(
    ("labels", "options", "field"),
    [
        (None, {}, "objective.name"),
        (("apple", "cherry"), {}, "objective.background"),
        (("background",), {}, "objective.background"),
        (LABELS, {"background": "nothing"}, "objective.background"),
    ],
)
def test_sets_that_tell_no_background_are_refused(
    labels: tuple[str, ...] | None, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        tsp(labels=labels, **options)
    assert caught.value.field == field
    assert "pal-eval spans" in caught.value.fix


@pytest.mark.parametrize("table", [b"no table", save({"other": torch.zeros(1)})])
def test_a_file_that_is_no_table_is_refused(table: bytes) -> None:
    with pytest.raises(ConfigError, match="pal-eval gvf"):
        tsp(table=table)


def test_a_count_of_classes_is_enough_where_names_do_not_matter() -> None:
    objective = tiny_objective(objective={"name": "tsp"}, num_classes=3, embedding_dim=128)
    assert objective.query_encoder.action.out_features == 2


def test_without_an_action_loss_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="class_weight"):
        ObjectiveConfig(name="tsp", class_weight=0.0)


@pytest.mark.parametrize(("name", "needs"), [("coclr", "flow"), ("xdc", "sound")])
def test_systems_that_the_data_can_not_feed_say_what_is_missing(name: str, needs: str) -> None:
    with pytest.raises(ConfigError, match=needs) as caught:
        ObjectiveConfig(name=name)
    assert caught.value.field == "objective.name"
    assert "missing" in caught.value.fix
