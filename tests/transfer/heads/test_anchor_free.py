"""The anchor-free head: where its moments lie, which action each answers for, its losses, and what it says."""

import math

import numpy as np
import pytest
import torch

from pal_ds.transfer.heads.actionformer import ActionFormer, points
from pal_ds.transfer.heads.anchor_free import diou_loss, focal, make_moment_targets, moment_loss, read_moments


def test_moments_of_a_pyramid_lie_on_the_snippets_that_their_convolutions_centre_on():
    place, stride = points(8, 3)
    assert place.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 0.5, 2.5, 4.5, 6.5, 0.5, 4.5]
    assert stride.tolist() == [1] * 8 + [2] * 4 + [4] * 2
    assert len(points(9, 3)[0]) == 12 + 6 + 3  # padded to a multiple of 4


def test_the_place_of_a_moment_is_where_its_output_changes_most():
    torch.manual_seed(0)
    model = ActionFormer(4, 2, hidden=16, levels=3, heads=2, window=3, dropout=0.0).eval()
    place, stride = points(32, 3)
    base = torch.zeros(1, 4, 32)
    seen = torch.ones(1, 32, dtype=torch.bool)
    responses = []
    for snippet in range(32):
        poked = base.clone()
        poked[0, :, snippet] = 1.0
        with torch.no_grad():
            difference = model(poked, seen)[0] - model(base, seen)[0]
        responses.append(difference[0].abs().sum(dim=1))
    response_sp = torch.stack(responses)
    weight = response_sp / response_sp.sum(dim=0)
    centre = ((torch.arange(32) + 0.5)[:, None] * weight).sum(dim=0)
    inner = (place > 12) & (place < 20)
    assert (centre - place)[inner].abs().max() < stride[inner].max()


def test_an_action_is_answered_for_near_its_centre_at_the_level_of_its_length():
    place, stride = points(32, 4)
    targets = make_moment_targets(np.array([[4.0, 10.0]]), np.array([1]), place, stride, levels=4, classes=2)
    answering = torch.nonzero(targets.wanted_pk.any(dim=1)).flatten()
    # Distances reach 3 to 4.5 snippets: level 0 takes those up to 4, level 1 (4 to 8) the rest.
    by_level = {(float(place[p]), int(stride[p])) for p in answering}
    assert by_level == {(6.5, 1), (7.5, 1), (4.5, 2), (8.5, 2)}
    at = int(torch.nonzero((place == 6.5) & (stride == 1))[0])
    assert targets.distances_p2[at].tolist() == [2.5, 3.5]
    wide = int(torch.nonzero((place == 4.5) & (stride == 2))[0])
    assert targets.distances_p2[wide].tolist() == [0.25, 2.75]
    assert targets.wanted_pk[answering].tolist() == [[False, True]] * len(answering)


def test_of_two_actions_the_shorter_one_is_answered_for():
    place, stride = points(16, 1)
    both = np.array([[2.0, 11.5], [6.0, 8.0]])
    targets = make_moment_targets(both, np.array([0, 1]), place, stride, levels=1, classes=2)
    assert targets.wanted_pk[6:8].tolist() == [[False, True]] * 2
    assert targets.wanted_pk[5].tolist() == [
        True,
        False,
    ]  # 5.5 is within 1.5 of the long one's centre and outside the short one


def test_all_classes_of_one_segment_are_answered_for():
    place, stride = points(16, 1)
    spans = np.array([[6.0, 8.0], [6.0, 8.0005], [6.0, 8.1]])
    targets = make_moment_targets(spans, np.array([0, 2, 1]), place, stride, levels=1, classes=4)
    # The second is as long as the first within a thousandth of a snippet, the third is longer.
    assert targets.wanted_pk[6:8].tolist() == [[True, False, True, False]] * 2
    assert targets.distances_p2[6].tolist() == [0.5, 1.5]


def test_ends_of_ranges_count_and_ends_of_actions_do_not():
    place, stride = points(32, 3)
    # From 6.5 the farther end is exactly 4 away: levels 0 (0 to 4) and 1 (4 to 8) both answer.
    targets = make_moment_targets(np.array([[4.5, 10.5]]), np.array([0]), place, stride, levels=3, classes=1)
    answering = {(float(place[p]), int(stride[p])) for p in torch.nonzero(targets.wanted_pk[:, 0]).flatten()}
    assert answering == {(6.5, 1), (7.5, 1), (8.5, 1), (6.5, 2), (8.5, 2)}
    # A moment exactly on an end, or exactly 1.5 strides from the centre, doesn't answer.
    for span in ([6.5, 8.0], [4.0, 6.0]):
        targets = make_moment_targets(np.array([span]), np.array([0]), place, stride, levels=3, classes=1)
        assert not targets.wanted_pk[(place == 6.5) & (stride == 1)].any()


def test_every_class_of_a_shared_segment_is_trained():
    place, stride = points(8, 1)
    targets = make_moment_targets(
        np.array([[2.0, 5.0], [2.0, 5.0]]), np.array([0, 1]), place, stride, levels=1, classes=2
    )
    stacked = type(targets)(wanted_pk=targets.wanted_pk[None], distances_p2=targets.distances_p2[None])
    logits = torch.zeros(1, 8, 2, requires_grad=True)
    loss = moment_loss(logits, torch.ones(1, 8, 2), torch.ones(1, 8, dtype=torch.bool), stacked)["class"]
    loss.backward()
    # Both classes are pulled up where the segment's centre is, and down elsewhere.
    assert (logits.grad[0, 3] < 0).all()
    assert (logits.grad[0, 7] > 0).all()


def test_a_piece_without_actions_has_no_answering_moment():
    place, stride = points(8, 2)
    nothing = np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    targets = make_moment_targets(*nothing, place, stride, levels=2, classes=3)
    assert targets.wanted_pk.shape == (len(place), 3)
    assert not targets.wanted_pk.any()


def test_focal_loss_by_hand():
    found = focal(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx([0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)])


def test_diou_loss_by_hand():
    found = diou_loss(torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
    # Equal segments; and two that only touch: IoU 0, centres 2 apart in a hull of 4.
    assert found.tolist() == pytest.approx([0.0, 1.0 + (2 / 4) ** 2])


def test_padding_changes_neither_loss_nor_output_of_real_moments():
    torch.manual_seed(1)
    model = ActionFormer(4, 2, hidden=16, levels=3, heads=2, window=5, dropout=0.0).eval()
    features = torch.randn(1, 4, 16)
    seen = (torch.arange(32) < 16)[None]
    padded = torch.cat([features, torch.randn(1, 4, 16)], dim=2) * seen
    with torch.no_grad():
        logits, distances, real = model(padded, seen)
        noisy = model(padded + 5.0 * ~seen, seen)
    place, stride = points(32, 3)
    assert real[0].tolist() == ((place - 0.5) < 16).tolist()
    targets = make_moment_targets(np.array([[3.0, 9.0]]), np.array([0]), place, stride, levels=3, classes=2)
    stacked = type(targets)(wanted_pk=targets.wanted_pk[None], distances_p2=targets.distances_p2[None])
    one = moment_loss(logits, distances, real, stacked)["loss"]
    other = moment_loss(*noisy, stacked)["loss"]
    torch.testing.assert_close(logits[real], noisy[0][real])
    assert float(one) == pytest.approx(float(other))


def test_reading_gives_segments_by_falling_score_and_leaves_padding_out():
    place, stride = points(4, 1)
    logits = torch.tensor([[2.0, -9.0], [-9.0, 1.0], [-9.0, -9.0], [5.0, 5.0]])
    distances = torch.tensor([[0.5, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    real = torch.tensor([True, True, True, False])
    segments, scores, classes = read_moments(logits, distances, real, place, stride, most=10)
    assert segments.tolist() == [[0.0, 1.5], [0.5, 2.5]]
    assert classes.tolist() == [0, 1]
    assert scores == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))], abs=1e-6)
