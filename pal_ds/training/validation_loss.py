"""InfoNCE over a whole split: every clip against the keys of the other clips of the same validation pass.

The training queue has no part in it. Its keys were made with the statistics of their batches, so beside them even a
network that learned nothing finds every positive (docs/decisions.md, "Validation").
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from pal_ds.distributed.ranks import Ranks
from pal_ds.models import ContrastTerm, ObjectiveOutput, ViewBatch
from pal_ds.models.ssl.info_nce import contrast_rows

#: Queries contrasted at once: with 16,384 keys their similarities take 64 MB.
_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class SampleFigures:
    """What a pass found for each of this rank's samples, float64 [N] each.

    Attributes:
        loss_n: the contrastive part of the loss.
        hit_n: share of the sample's queries whose positive beats every negative.
        positive_n: similarity to the positive.
        negative_n: mean similarity to the negatives.
        negatives_n: number of negatives that count.
    """

    loss_n: Tensor
    hit_n: Tensor
    positive_n: Tensor
    negative_n: Tensor
    negatives_n: Tensor


class SplitContrast:
    """Keeps queries and keys of a pass, then contrasts each query with the keys of other clips.

    Args:
        ranks: the world.
        most_negatives: only the first so many clips of the split, in global order, serve as negatives.
        recordings_apart: clips cut from one recording are no negatives of one another.
    """

    def __init__(self, ranks: Ranks, *, most_negatives: int, recordings_apart: bool) -> None:
        self._ranks = ranks
        self._most = most_negatives
        self._apart = recordings_apart
        self._batches: list[tuple[ContrastTerm, ...]] = []
        self._places: list[Tensor] = []
        self._recordings: list[Tensor] = []
        self._keys: list[Tensor] = []

    def add(self, output: ObjectiveOutput, batch: ViewBatch) -> None:
        """Take a batch of an objective in eval mode.

        Raises:
            ValueError: the batch does not say where its clips stand in the split, or which recordings they are of.
        """
        if not output.terms:
            return
        if output.staged is None or batch.places_b is None:
            raise ValueError("a validation batch needs its keys and its clips' places in the split")
        if self._apart and batch.recordings_b is None:
            raise ValueError("objective.same_recording_negatives=false needs the recordings of a batch")
        self._batches.append(output.terms)
        self._places.append(batch.places_b)
        self._keys.append(output.staged)
        self._recordings.append(
            batch.recordings_b if batch.recordings_b is not None else torch.zeros_like(batch.places_b)
        )

    def figures(self) -> SampleFigures | None:
        """Contrast everything (collective); None on a rank without contrastive batches."""
        keys_kd, places_k, recordings_k = self._bank()
        if not self._batches:
            return None
        found = [
            self._contrast(terms, places_b, recordings_b, keys_kd, places_k, recordings_k)
            for terms, places_b, recordings_b in zip(
                self._batches, self._places, self._recordings, strict=True
            )
        ]
        return SampleFigures(*(torch.cat(column) for column in zip(*found, strict=True)))

    def _bank(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first keys of the split with their places and recordings, equal on every rank."""
        device = self._ranks.device
        places_n, recordings_n = (
            torch.cat(part) if part else torch.zeros(0, dtype=torch.int64, device=device)
            for part in (self._places, self._recordings)
        )
        chosen_n = places_n < self._most
        count, width = int(chosen_n.sum()), self._keys[0].shape[1] if self._keys else 0
        sizes_w2 = self._ranks.gather(torch.tensor([count, width], device=device)).tolist()
        most, width = max(size for size, _ in sizes_w2), max(found for _, found in sizes_w2)
        keys_md = torch.zeros(most, width, device=device)
        numbers_m2 = torch.full((most, 2), -1, dtype=torch.int64, device=device)
        if count:
            keys_md[:count] = torch.cat(self._keys)[chosen_n]
            numbers_m2[:count] = torch.stack((places_n, recordings_n), dim=1)[chosen_n]
        everyones_nd = self._ranks.gather(keys_md).flatten(0, 1)
        numbers_n2 = self._ranks.gather(numbers_m2).flatten(0, 1)
        real_n = numbers_n2[:, 0] >= 0
        order_k = numbers_n2[real_n, 0].argsort()
        numbers_k2 = numbers_n2[real_n][order_k]
        return everyones_nd[real_n][order_k], numbers_k2[:, 0], numbers_k2[:, 1]

    def _contrast(
        self,
        terms: tuple[ContrastTerm, ...],
        places_b: Tensor,
        recordings_b: Tensor,
        keys_kd: Tensor,
        places_k: Tensor,
        recordings_k: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the columns of :class:`SampleFigures` for one batch."""
        excluded_bk = places_b.unsqueeze(1) == places_k
        if self._apart:
            excluded_bk = excluded_bk | (recordings_b.unsqueeze(1) == recordings_k)
        columns = places_b.new_zeros((5, len(places_b)), dtype=torch.float64)
        main = [term for term in terms if term.main]
        for term in terms:
            rows = _rows(term, keys_kd, excluded_bk)
            size = len(term.sample_m) / len(places_b)
            columns[0].index_add_(0, term.sample_m, rows[0] * (term.weight / size))
            if term.main:
                for column, values in zip(columns[1:], rows[1:], strict=True):
                    column.index_add_(0, term.sample_m, values / (size * len(main)))
        return tuple(columns)


def _rows(term: ContrastTerm, keys_kd: Tensor, excluded_bk: Tensor) -> Tensor:
    """Return loss, hit, similarities and number of negatives of a term's queries, float64 [5, M]."""
    parts = []
    for first in range(0, len(term.sample_m), _ROWS_AT_ONCE):
        span = slice(first, first + _ROWS_AT_ONCE)
        rows = contrast_rows(
            term.query_md[span],
            term.key_md[span],
            keys_kd,
            temperature=term.temperature,
            excluded=excluded_bk[term.sample_m[span]],
        )
        columns = (rows.loss_b, rows.hit_b, rows.positive_b, rows.negative_b, rows.negatives_b)
        parts.append(torch.stack([column.double() for column in columns]))
    return torch.cat(parts, dim=1)
