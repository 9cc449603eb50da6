"""What the backbone's features say about labels it was never shown: a number beside the validation loss."""

from __future__ import annotations

import torch
from torch import Tensor

from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ObjectiveOutput
from pal_ds.models.ssl.knn_probe import knn_accuracy, retrieval_recall

#: More samples than this (over all ranks) would make a similarity matrix of over 100 MB.
MOST_SAMPLES = 5000


class LabelProbe:
    """Gathers features of labelled validation samples over a pass, then asks nearest neighbours for their class.

    A sample's feature is the mean of the backbone's over the clips of its region in the query view: labels say what
    the pasted action is, not what stands behind it.

    Args:
        ranks: the world.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._features: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._room = MOST_SAMPLES // ranks.world_size

    def add(self, output: ObjectiveOutput, labels_b: Tensor | None) -> None:
        """Take a batch's samples, as long as there is room.

        Args:
            output: of the objective in eval mode, which brings the features along.
            labels_b: classes of the batch; None where the set is not labelled.
        """
        if labels_b is None or output.features is None or self._room <= 0:
            return
        self._features.append(output.features[: self._room].float())
        self._labels.append(labels_b[: self._room])
        self._room -= len(labels_b)

    def result(self) -> dict[str, float]:
        """Return the probe's figures over all ranks (collective); empty where there are no two samples.

        Returns:
            ``knn_accuracy`` (5 neighbours, leave-one-out), ``retrieval_r1``, and ``knn_samples``.
        """
        device = self._ranks.device
        labels_n = (
            torch.cat(self._labels) if self._labels else torch.zeros(0, dtype=torch.int64, device=device)
        )
        width = self._features[0].shape[1] if self._features else 0
        sizes_w2 = self._ranks.gather(torch.tensor([len(labels_n), width], device=device)).tolist()
        most, width = max(size for size, _ in sizes_w2), max(found for _, found in sizes_w2)
        if sum(size for size, _ in sizes_w2) < 2:
            return {}
        padded_nc = torch.zeros(most, width, device=device)
        padded_n = torch.zeros(most, dtype=torch.int64, device=device)
        if len(labels_n):
            padded_nc[: len(labels_n)] = torch.cat(self._features)
            padded_n[: len(labels_n)] = labels_n
        everyone_wnc, everyone_wn = self._ranks.gather(padded_nc), self._ranks.gather(padded_n)
        features_nc = torch.cat([part[:size] for part, (size, _) in zip(everyone_wnc, sizes_w2, strict=True)])
        all_n = torch.cat([part[:size] for part, (size, _) in zip(everyone_wn, sizes_w2, strict=True)])
        return {
            "knn_accuracy": knn_accuracy(features_nc, all_n),
            "retrieval_r1": retrieval_recall(features_nc, all_n),
            "knn_samples": float(len(all_n)),
        }
