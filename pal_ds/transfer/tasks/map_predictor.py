"""Reads the maps of a boundary-map head, G-TAD or BMN: proposals, and their classes where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pal_ds.config.heads import HeadConfig, MapHeadConfig
from pal_ds.formats.feature_folder import VideoFeatures
from pal_ds.transfer.tasks.predictor import Predictor, Row
from pal_ds.transfer.tasks.proposals import Maps, propose
from pal_ds.transfer.tasks.windows import Piece, stacked_features


class MapPredictor(Predictor):
    """See :class:`Predictor`; a map tells no classes apart, so they are the labeller's."""

    @classmethod
    def network(cls, head: HeadConfig, feature_dim: int, classes: Sequence[str]) -> nn.Module:
        """See :class:`Predictor`."""
        del classes
        assert isinstance(head, MapHeadConfig)
        made: nn.Module = head.network(feature_dim)
        return made

    def rows(self, features: VideoFeatures) -> list[Row]:
        """See :class:`Predictor`; each proposal is written once for each of its classes."""
        pieces = self.reading.pieces(features)
        segments_n2, scores_n = propose(pieces, self._maps(pieces), self.reading.post)
        spans = [[float(start), float(end)] for start, end in segments_n2]
        scores = [float(score) for score in scores_n]
        if self.labeller is None:
            return [{"segment": span, "score": score} for span, score in zip(spans, scores, strict=True)]
        labels = self.labeller.label(features, segments_n2, self.reading.post.classes)
        return [
            {"segment": span, "score": score * probability, "label": label}
            for span, score, named in zip(spans, scores, labels, strict=True)
            for label, probability in named
        ]

    def _maps(self, pieces: list[Piece]) -> list[Maps]:
        shown = []
        batch = self.reading.batch
        for begin in range(0, len(pieces), batch):
            output = self.model(stacked_features(pieces[begin : begin + batch]).to(self.device))
            maps, start, end = (part.double().cpu().numpy() for part in output)
            shown += [
                Maps(overlap_dt=m[0], match_dt=m[1], start_t=s, end_t=e)
                for m, s, e in zip(maps, start, end, strict=True)
            ]
        return shown
