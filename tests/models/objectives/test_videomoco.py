"""VideoMoCo: keys fade with age; the adversary drops as many frames as asked and raises the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pal_ds.models.layers.numerics import unit
from pal_ds.models.objectives.videomoco import FrameDropper
from pal_ds.models.ssl.info_nce import info_nce
from pal_ds.models.ssl.key_queue import KeyQueue
from tests.support.tiny_models import tiny_batch, tiny_objective


def videomoco(**options: Any) -> Any:
    return tiny_objective(objective={"name": "videomoco", **options}, queue_size=6)


def test_ages_count_the_keys_that_came_after() -> None:
    queue = KeyQueue(4, 2)
    for number in range(6):
        queue.enqueue(torch.full((1, 2), float(number)))
    assert queue.keys[:, 0].tolist() == [4.0, 5.0, 2.0, 3.0]
    assert queue.ages().tolist() == [1, 0, 3, 2]


def test_weights_enter_the_sum_of_the_loss() -> None:
    query, key, negatives = (unit(torch.randn(count, 8)) for count in (3, 3, 5))
    weights = torch.tensor([1.0, 0.5, 0.25, 0.9, 0.1])
    found = info_nce(query, key, negatives, temperature=0.1, log_weights_n=weights.log()).loss
    positive = ((query * key).sum(dim=1) / 0.1).exp()
    others = (weights * (query @ negatives.T / 0.1).exp()).sum(dim=1)
    torch.testing.assert_close(found, -(positive / (positive + others)).log().mean())


def test_old_keys_weigh_less_and_no_decay_is_moco() -> None:
    moco = tiny_objective(objective={"name": "moco"}, queue_size=6)
    losses = {decay: videomoco(queue_decay=decay, drop_share=0.0) for decay in (1.0, 0.5)}
    for layer in (layer for module in (moco, *losses.values()) for layer in module.modules()):
        if isinstance(layer, _BatchNorm):
            layer.eval()
    batch = tiny_batch(3)
    assert torch.equal(losses[1.0](batch).loss, moco(batch).loss)
    assert losses[0.5](batch).loss < moco(batch).loss


@pytest.mark.parametrize(("share", "dropped"), [(0.25, 2), (0.5, 4), (0.99, 7), (0.01, 0)])
def test_the_highest_scores_are_dropped(share: float, dropped: int) -> None:
    score = torch.rand(5, 8)
    kept = FrameDropper(share).kept(score)
    assert (kept.sum(dim=1) == 8 - dropped).all()
    if dropped:
        assert (
            score.where(kept == 0, torch.inf).amin(dim=1) > score.where(kept == 1, -1.0).amax(dim=1)
        ).all()


def test_frames_are_blanked_in_training_only() -> None:
    objective = videomoco()
    batch = tiny_batch(2)
    blank = objective.dropper(batch.query_bjcthw).abs().amax(dim=(2, 4, 5)) < 1e-6
    assert (blank.sum(dim=2) == 2).all()
    objective.eval()
    moco = tiny_objective(objective={"name": "moco"}, queue_size=6).eval()
    moco.load_state_dict({n: v for n, v in objective.state_dict().items() if not n.startswith("dropper.")})
    objective.options = type(objective.options)(name="videomoco", queue_decay=1.0)
    (one,), (other,) = objective(batch).terms, moco(batch).terms
    assert torch.equal(one.query_md, other.query_md)
    assert torch.equal(one.key_md, other.key_md)


def test_the_adversary_climbs_where_the_encoder_descends() -> None:
    """With the energy of the kept frames as the loss, descent keeps every frame that has any."""
    clips = torch.rand(2, 1, 3, 8, 16, 16) + 0.1
    dropper = FrameDropper(0.25)
    raw: list[torch.Tensor] = []
    dropper.time.register_forward_hook(lambda _module, _inputs, score: raw.append(score))
    loss = dropper(clips).square().sum() + 0.0 * sum(p.sum() for p in dropper.parameters())
    (gradient,) = torch.autograd.grad(loss, raw[0])
    kept = dropper.kept(raw[0].detach().squeeze(1)) == 1
    assert (gradient.squeeze(1)[kept] > 0).all(), (
        "descent lowers the score, so the frame stays and the loss grows"
    )


def test_everything_that_trains_has_a_gradient() -> None:
    objective = videomoco()
    objective(tiny_batch(2)).loss.backward()
    for name, parameter in objective.named_parameters():
        wanted = name.startswith(("query_encoder.", "dropper."))
        assert (parameter.grad is not None) == wanted, name
