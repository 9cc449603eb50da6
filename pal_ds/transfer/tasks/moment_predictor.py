"""Reads the moments of the anchor-free head: detections of its own classes, or proposals with a labeller's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pal_ds.config.heads import HeadConfig
from pal_ds.formats.feature_folder import VideoFeatures
from pal_ds.transfer.heads.actionformer import ActionFormerConfig, points
from pal_ds.transfer.heads.anchor_free import read_moments
from pal_ds.transfer.metrics.tiou import Floats
from pal_ds.transfer.tasks.predictor import Predictor, Row
from pal_ds.transfer.tasks.soft_nms import soft_nms
from pal_ds.transfer.tasks.windows import Piece, stacked_features

#: Candidates of a piece that go into soft-NMS (ActionFormer section 4).
CANDIDATES = 2000


class MomentPredictor(Predictor):
    """See :class:`Predictor`."""

    @classmethod
    def network(cls, head: HeadConfig, feature_dim: int, classes: Sequence[str]) -> nn.Module:
        """See :class:`Predictor`."""
        assert isinstance(head, ActionFormerConfig)
        return head.network(feature_dim, max(1, len(classes)))

    def rows(self, features: VideoFeatures) -> list[Row]:
        """See :class:`Predictor`: soft-NMS class by class, the best of all classes kept."""
        pieces = self.reading.pieces(features)
        segments, scores, classes = self._candidates(pieces)
        post, found = self.reading.post, []
        for number in np.unique(classes):
            mine = classes == number
            kept, lowered = soft_nms(
                segments[mine], scores[mine], sigma=post.sigma, keep=post.keep, low=post.low, high=post.high
            )
            found += [(float(score), int(number), span) for score, span in zip(lowered, kept, strict=True)]
        best = sorted(found, key=lambda entry: -entry[0])[: post.keep]
        extent = max(piece.duration for piece in pieces)
        spans_n2 = np.array([span * extent for _, _, span in best]).reshape(-1, 2)
        rows = [
            {"segment": [float(start), float(end)], "score": score}
            for (start, end), (score, _, _) in zip(spans_n2, best, strict=True)
        ]
        if self.classes:
            return [
                row | {"label": self.classes[number]} for row, (_, number, _) in zip(rows, best, strict=True)
            ]
        if self.labeller is None:
            return rows
        labels = self.labeller.label(features, spans_n2, post.classes)
        return [
            row | {"score": score * share, "label": label}
            for row, (score, _, _), named in zip(rows, best, labels, strict=True)
            for label, share in named
        ]

    def _candidates(self, pieces: list[Piece]) -> tuple[Floats, Floats, Any]:
        """Collect the candidates of all pieces of a video as shares of its duration."""
        segments, scores, classes = [], [], []
        head, post, batch = self.reading.head, self.reading.post, self.reading.batch
        assert isinstance(head, ActionFormerConfig)
        place_p, stride_p = points(head.snippets, head.levels)
        for begin in range(0, len(pieces), batch):
            some = pieces[begin : begin + batch]
            inputs, seen = moment_input(some)
            output = [part.cpu() for part in self.model(inputs.to(self.device), seen.to(self.device))]
            for piece, logits, distances, real in zip(some, *output, strict=True):
                span, score, named = read_moments(logits, distances, real, place_p, stride_p, most=CANDIDATES)
                seconds = piece.seconds(span / head.snippets)
                whole = seconds[:, 1] > seconds[:, 0]
                if longest := post.longest_seconds:
                    whole &= seconds[:, 1] - seconds[:, 0] < longest
                segments.append(seconds[whole] / piece.duration)
                scores.append(score[whole])
                classes.append(named[whole])
        return np.concatenate(segments), np.concatenate(scores), np.concatenate(classes)


def moment_input(pieces: list[Piece]) -> tuple[Tensor, Tensor]:
    """Return the head's input: features [B, C, T], and which of them are the video's, bool [B, T].

    Raises:
        FeatureError: the pieces' features differ in width.
    """
    stacked = stacked_features(pieces)
    shown = torch.tensor([piece.shown for piece in pieces])
    return stacked, torch.arange(stacked.shape[2]) < shown[:, None]
