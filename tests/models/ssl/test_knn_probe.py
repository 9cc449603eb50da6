"""The label probe and the collapse rule: known answers."""

from __future__ import annotations

import pytest
import torch

from pal_ds.models.layers.numerics import unit
from pal_ds.models.ssl.embedding_quality import feature_std
from pal_ds.models.ssl.knn_probe import collapse_warning, knn_accuracy, retrieval_recall


def clusters(noise: float, *, classes: int = 4, each: int = 10, dim: int = 16) -> tuple[torch.Tensor, ...]:
    labels = torch.arange(classes).repeat_interleave(each)
    centres = torch.randn(classes, dim)
    return 5.0 + centres[labels] + noise * torch.randn(classes * each, dim), labels


def test_separate_classes_are_found_and_noise_is_at_chance() -> None:
    features, labels = clusters(0.05)
    assert knn_accuracy(features, labels) == 1.0
    assert retrieval_recall(features, labels) == 1.0
    shuffled = labels[torch.randperm(len(labels))]
    many = torch.randn(400, 16), torch.arange(400) % 4
    assert knn_accuracy(features, shuffled) < 0.6
    assert knn_accuracy(*many) == pytest.approx(0.25, abs=0.1)


def test_a_sample_is_never_its_own_neighbour() -> None:
    labels = torch.arange(6)
    assert knn_accuracy(torch.eye(6), labels, neighbours=1) == 0.0
    assert retrieval_recall(torch.eye(6), labels) == 0.0


def test_a_common_offset_changes_nothing() -> None:
    features, labels = clusters(0.6)
    torch.testing.assert_close(
        knn_accuracy(features, labels), knn_accuracy(features + 100.0, labels), atol=0.026, rtol=0
    )


def test_recall_grows_with_the_rank_and_leaves_single_samples_out() -> None:
    features, labels = clusters(1.5)
    found = [retrieval_recall(features, labels, rank=rank) for rank in (1, 5, 20)]
    assert found == sorted(found)
    single = torch.cat((features, torch.randn(1, 16))), torch.cat((labels, torch.tensor([9])))
    assert retrieval_recall(*single, rank=40) == 1.0


def test_half_precision_features_are_probed_in_full() -> None:
    features, labels = clusters(0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert knn_accuracy(features.bfloat16(), labels) == 1.0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="2 samples"):
        knn_accuracy(torch.ones(1, 3), torch.zeros(1, dtype=torch.int64))


FALLING, FLAT = [4.0, 3.5, 3.0, 2.5, 2.0, 1.5], [4.0] * 6


def test_collapse_is_a_falling_loss_of_features_that_are_one_point() -> None:
    point = unit(torch.ones(64, 128) + 1e-3 * torch.randn(64, 128))
    spread = unit(torch.randn(64, 128))
    assert "collapse" in str(collapse_warning(FALLING, float(feature_std(point)), dim=128))
    assert collapse_warning(FALLING, float(feature_std(spread)), dim=128) is None
    assert collapse_warning(FLAT, float(feature_std(point)), dim=128) is None
    assert collapse_warning(FALLING[::-1], 0.0, dim=128) is None
    assert collapse_warning(FALLING[:3], 0.0, dim=128) is None
    assert collapse_warning([*FALLING, float("nan")], 0.0, dim=128) is None
