"""What the labels of a set say about frozen features, and when an embedding has collapsed: rules without state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pal_ds.models.layers.numerics import at_least_fp32, full_precision, unit

#: An embedding is taken for collapsed below this share of 1 / sqrt(D), the spread of vectors all over the sphere.
COLLAPSED_SHARE = 0.1


def knn_accuracy(features_nc: Tensor, labels_n: Tensor, *, neighbours: int = 5) -> float:
    """Share of samples whose nearest neighbours among all others vote for their class.

    Leave-one-out, cosine similarity of centred features, votes weighted by exp(similarity / 0.07) as in the
    field's kNN probes (Wu et al., 2018). Centring matters: features after a ReLU share a large mean, beside which
    their differences would drown.

    Args:
        features_nc: backbone features.
        labels_n: int64 classes.
        neighbours: k, lowered to what is there.

    Raises:
        ValueError: fewer than two samples, or another number of labels.
    """
    if len(features_nc) < 2 or len(labels_n) != len(features_nc):
        raise ValueError(
            f"a probe needs 2 samples or more, with a label each; got {len(features_nc)}, {len(labels_n)}"
        )
    with full_precision(features_nc):
        vectors_nc = unit(at_least_fp32(features_nc) - at_least_fp32(features_nc).mean(dim=0))
        similarity_nn = (vectors_nc @ vectors_nc.T).fill_diagonal_(float("-inf"))
        near = similarity_nn.topk(min(neighbours, len(features_nc) - 1), dim=1)
        votes_nk = torch.zeros(len(features_nc), int(labels_n.max()) + 1, device=features_nc.device)
        weights = (near.values / 0.07).softmax(dim=1).to(votes_nk.dtype)
        votes_nk.scatter_add_(1, labels_n[near.indices], weights)
    return float((votes_nk.argmax(dim=1) == labels_n).float().mean())


def retrieval_recall(features_nc: Tensor, labels_n: Tensor, *, rank: int = 1) -> float:
    """Share of samples with one of their class among the ``rank`` most similar others (R@k of video retrieval).

    A class with a single sample can't be retrieved and is left out; 0 where no class has two.
    """
    with full_precision(features_nc):
        vectors_nc = unit(at_least_fp32(features_nc) - at_least_fp32(features_nc).mean(dim=0))
        similarity_nn = (vectors_nc @ vectors_nc.T).fill_diagonal_(float("-inf"))
        near_nr = similarity_nn.topk(min(rank, max(1, len(features_nc) - 1)), dim=1).indices
    hit_n = (labels_n[near_nr] == labels_n[:, None]).any(dim=1)
    possible_n = (labels_n[:, None] == labels_n).sum(dim=1) > 1
    return float((hit_n & possible_n).sum() / possible_n.sum().clamp(min=1))


def collapse_warning(losses: Sequence[float], feature_std: float, *, dim: int) -> str | None:
    """Say so when a contrastive loss falls although the features are almost one point.

    Such a run looks well and learns nothing: the queue's keys lag behind the drifting encoder, and telling new
    from old is enough. So falling loss and tiny spread are asked for together: at the start of a run, features
    are close to one point too, and the loss has yet to fall.

    Args:
        losses: the loss of the latest logged rows, oldest first.
        feature_std: spread of the unit region vectors (``quality.feature_std``).
        dim: D, their size.

    Returns:
        One line for people, or None: too few rows, a loss that does not fall, or features spread well enough.
    """
    if len(losses) < 4:
        return None
    half = len(losses) // 2
    before, now = (sum(part) / len(part) for part in (losses[:half], losses[-half:]))
    spread = 1.0 / float(dim) ** 0.5
    if not now < before or not feature_std < COLLAPSED_SHARE * spread:
        return None
    return (
        f"collapse: the loss falls ({before:.3g} to {now:.3g}) while features are almost one point: feature_std = "
        f"{feature_std:.2g}, spread vectors of size {dim} have {spread:.2g}; a lower learning rate, "
        "model.head_bn=true or a faster key encoder (lower model.momentum) may help"
    )
