"""Video grounding (VG) with LGI on frozen features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pal_ds.config.transfer import TransferConfig
from pal_ds.formats.feature_folder import FeatureStore, VideoFeatures
from pal_ds.transfer.datasets.annotations import Query
from pal_ds.transfer.datasets.grounding import read_queries
from pal_ds.transfer.heads.lgi import LgiConfig
from pal_ds.transfer.heads.lgi_loss import GroundingLoss, grounding_loss
from pal_ds.transfer.tasks.base import Results, Task
from pal_ds.transfer.tasks.vocabulary import Vocabulary


class GroundingTask(Task):
    """Trains LGI and reads its spans.

    Args:
        config: of the run.
        labelled: of no meaning here; every task takes it.
        device: where the head runs.

    Raises:
        ConfigError: features or annotations don't fit.
        AnnotationError: an annotation file is malformed.
        FeatureError: a feature file is.
    """

    def __init__(self, config: TransferConfig, *, labelled: bool, device: torch.device) -> None:
        del labelled  # sentences stand for classes
        data, head = config.data, config.head
        assert isinstance(head, LgiConfig)
        self.config, self.device, self.metric = config, device, "grounding"
        self.options = head
        self.head, self.tiou = head.name, config.tiou
        self.truth, self.subset = data.evaluate_annotations or data.annotations, data.evaluate_subset
        store = FeatureStore(data.features)
        other = data.evaluate_features
        evaluate_store = FeatureStore(other) if other and other != data.features else store
        queries = read_queries(data.annotations, data.train_subset)
        evaluated = read_queries(self.truth, self.subset)
        self.features: dict[str, VideoFeatures] = {}
        self.queries = self._with_features(store, queries, "training")
        self.evaluated = self._with_features(evaluate_store, evaluated, "evaluated")
        self.items = len(self.queries)
        self.vocabulary = Vocabulary.of(query.sentence for query in self.queries)
        feature_dim = self.features[self.queries[0].video].values_tc.shape[1]
        self.model = head.network(len(self.vocabulary), feature_dim).to(device)

    def losses(self, items: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """See :class:`Task`."""
        loss = self._loss([self.queries[item] for item in items], generator)
        return {"loss": loss.total, "span": loss.span, "attention": loss.attention, "distinct": loss.distinct}

    def evaluation_loss(self, generator: torch.Generator) -> float:
        """See :class:`Task`."""
        del generator  # segments of long videos are drawn in training only
        total = 0.0
        for queries in self._batches():
            total += float(self._loss(queries, None).total) * len(queries)
        return total / len(self.evaluated)

    def predict(self) -> Results:
        """See :class:`Task`."""
        results: Results = {}
        for queries in self._batches():
            x, exists, words = self._input(queries, None)
            for query, (start, end) in zip(
                queries, self.model(x, exists, words).span_b2.tolist(), strict=True
            ):
                duration = self.features[query.video].duration
                first = min(start * duration, duration)
                # A span that ends before it starts hits nothing; it's written as an empty one.
                row = {
                    "segment": [first, max(first, min(end * duration, duration))],
                    "score": 1.0,
                    "sentence": query.sentence,
                }
                if query.identity != query.sentence:
                    row["query_id"] = query.identity
                results.setdefault(query.video, []).append(row)
        return results

    def headline(self, figures: dict[str, Any]) -> tuple[str, float]:
        """See :class:`Task`; R@1 at tIoU 0.5 as in LGI's release, or the mean overlap without it."""
        recall = figures["R@1"]
        return ("R@1 0.5", float(recall["0.5"])) if "0.5" in recall else ("mIoU", float(figures["mIoU"]))

    def state(self) -> dict[str, Any]:
        """See :class:`Task`."""
        return {"words": self.vocabulary.words}

    def _with_features(self, store: FeatureStore, queries: tuple[Query, ...], name: str) -> list[Query]:
        videos = list(dict.fromkeys(query.video for query in queries))
        present = set(store.present(videos, missing=self.config.data.missing, name=name))
        self.features.update({video: store.load(video) for video in videos if video in present})
        return [query for query in queries if query.video in present]

    def _batches(self) -> list[list[Query]]:
        size = self.config.optimizer.batch
        return [self.evaluated[begin : begin + size] for begin in range(0, len(self.evaluated), size)]

    def _input(
        self, queries: list[Query], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Stack features [B, T, C], which segments exist [B, T] and words [B, L]."""
        limit = self.config.head.snippets
        shown = [pick_segments(self.features[query.video].values_tc, limit, generator) for query in queries]
        x = torch.zeros(len(shown), limit, shown[0].shape[1])
        exists = torch.zeros(len(shown), limit, dtype=torch.bool)
        for row, values in enumerate(shown):
            x[row, : len(values)] = torch.from_numpy(values)
            exists[row, : len(values)] = True
        words = torch.tensor(
            [self.vocabulary.encode(query.sentence, self.options.words) for query in queries]
        )
        return x.to(self.device), exists.to(self.device), words.to(self.device)

    def _loss(self, queries: list[Query], generator: torch.Generator | None) -> GroundingLoss:
        x, exists, words = self._input(queries, generator)
        spans = torch.tensor(
            [
                [
                    query.start / self.features[query.video].duration,
                    query.end / self.features[query.video].duration,
                ]
                for query in queries
            ]
        ).to(self.device)
        inside = inside_span(spans, exists.sum(dim=1), exists.shape[1])
        return grounding_loss(self.model(x, exists, words), spans, inside)


def pick_segments(
    values_tc: NDArray[np.float32], limit: int, generator: torch.Generator | None
) -> NDArray[np.float32]:
    """Take at most ``limit`` features, evenly by index; training starts at a random offset (as LGI's release).

    Feature k is the one nearest to ``offset + k * T / limit``, halves to the even one. The offset is a whole number
    from 0 to ``T / limit - 0.5``, that end left out where it is whole itself: there is more than one only where a
    segment stands for more than 1.5 features.

    Args:
        values_tc: features [T, C].
        limit: most features.
        generator: draws the offset; None starts at the first feature.

    Returns:
        Features [min(T, limit), C].
    """
    if len(values_tc) <= limit:
        return values_tc
    stride = len(values_tc) / limit
    offset = 0
    if generator is not None and (offsets := math.ceil(stride - 0.5)) > 1:
        offset = int(torch.randint(offsets, (), generator=generator, device=generator.device))
    return values_tc[np.round(offset + np.arange(limit) * stride).astype(np.int64)]


def inside_span(spans_b2: Tensor, count_b: Tensor, segments: int) -> Tensor:
    """Say which segments attention is guided to: from the one nearest to the start to the one nearest to the end.

    LGI's rule (``timestamp_to_featstamp``): both ends are rounded, halves to the even one, and the last one counts;
    at least two segments. At the end of a video shorter than T that is one segment of padding, where attention is 0:
    a constant in the loss.

    Args:
        spans_b2: shares of the duration [B, 2].
        count_b: how many segments exist [B].
        segments: T.

    Returns:
        bool [B, T].
    """
    first = torch.minimum((spans_b2[:, 0] * count_b).round().long(), count_b - 1).clamp(min=0)
    final = torch.maximum((spans_b2[:, 1] * count_b).round().long(), first + 1)
    place = torch.arange(segments, device=spans_b2.device)
    return (place >= first[:, None]) & (place <= final[:, None])
