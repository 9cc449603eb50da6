"""Detection (TAD) and proposals (APG) with the anchor-free head, which names classes by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.transfer import TransferConfig
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.datasets.annotations import AnnotationError, VideoAnnotation
from pal_ds.transfer.heads.actionformer import ActionFormerConfig, points
from pal_ds.transfer.heads.anchor_free import MomentTargets, make_moment_targets, moment_loss
from pal_ds.transfer.tasks.base import Results, Task
from pal_ds.transfer.tasks.boundary_map_detection import annotated_videos
from pal_ds.transfer.tasks.class_scores import VideoScores
from pal_ds.transfer.tasks.moment_predictor import MomentPredictor, moment_input
from pal_ds.transfer.tasks.predictor import Reading
from pal_ds.transfer.tasks.windows import Piece, cut

ANY = "action"


class MomentTask(Task):
    """Trains ActionFormer and reads its moments.

    Args:
        config: of the run.
        labelled: True for detection, False for proposals. Proposals, and detection with video-level class scores,
            train one class for all actions.
        device: where the head runs.

    Raises:
        ConfigError: features or annotations don't fit.
        AnnotationError: an annotation file is malformed.
        FeatureError: a feature file is.
    """

    def __init__(self, config: TransferConfig, *, labelled: bool, device: torch.device) -> None:
        data, head = config.data, config.head
        assert isinstance(head, ActionFormerConfig)
        self.config, self.device, self.options = config, device, head
        self.head, self.tiou = head.name, config.tiou
        self.metric = "detection" if labelled else "proposals"
        self.truth, self.subset = data.evaluate_annotations or data.annotations, data.evaluate_subset
        self.dataset = data.dataset
        store = FeatureStore(data.features)
        other = data.evaluate_features
        self.evaluate_store = FeatureStore(other) if other and other != data.features else store
        training = annotated_videos(
            store, data.annotations, data.train_subset, data.missing, "training", dataset=data.dataset
        )
        self.evaluated = annotated_videos(
            self.evaluate_store, self.truth, self.subset, data.missing, "evaluated", dataset=data.dataset
        )
        scores = VideoScores(data.class_scores) if labelled and data.class_scores else None
        self.labelled = labelled
        named = labelled and scores is None
        self.classes = tuple(
            sorted({segment.label for video in training for segment in video.segments}) if named else [ANY]
        )
        self._number = {label: number for number, label in enumerate(self.classes)}
        self.place_p, self.stride_p = points(head.snippets, head.levels)
        self.pieces = [piece for video in training for piece in self._cut(store, video, training=True)]
        if not self.pieces:
            raise AnnotationError(data.annotations, "", "no training video shows an annotated segment")
        self.items = len(self.pieces)
        self.targets = [self._targets(piece) for piece in self.pieces]
        self.model = head.network(self.pieces[0].values_tc.shape[1], len(self.classes)).to(device)
        self.predictor = MomentPredictor(
            Reading.of(config), self.model, device, classes=self.classes if named else (), labeller=scores
        )

    def losses(self, items: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """See :class:`Task`."""
        del generator
        return self._loss([self.pieces[item] for item in items], [self.targets[item] for item in items])

    def evaluation_loss(self, generator: torch.Generator) -> float:
        """See :class:`Task`."""
        del generator
        total, count = 0.0, 0
        for video in self.evaluated:
            pieces = self._cut(self.evaluate_store, video, training=True)
            if pieces:
                total += float(self._loss(pieces, [self._targets(piece) for piece in pieces])["loss"]) * len(
                    pieces
                )
                count += len(pieces)
        return total / max(count, 1)

    def predict(self) -> Results:
        """See :class:`Task`."""
        return {
            video.video: self.predictor.rows(self.evaluate_store.load(video.video))
            for video in self.evaluated
        }

    def headline(self, figures: dict[str, Any]) -> tuple[str, float]:
        """See :class:`Task`."""
        name = "average_mAP" if self.labelled else "AUC"
        return name, float(figures[name])

    def state(self) -> dict[str, Any]:
        """See :class:`Task`."""
        return {"classes": list(self.classes)}

    def _cut(self, store: FeatureStore, video: VideoAnnotation, *, training: bool) -> list[Piece]:
        data, snippets = self.config.data, self.config.head.snippets
        features = store.load(video.video)
        return list(
            cut(features, video, shape=data.shape, snippets=snippets, every=data.every, training=training)
        )

    def _targets(self, piece: Piece) -> MomentTargets:
        named = [self._number.get(label if ANY not in self._number else ANY, -1) for label in piece.labels]
        number_n = np.array(named, dtype=np.int64)
        # A class that training never showed can't be answered for; it appears in evaluation only.
        known = number_n >= 0
        return make_moment_targets(
            piece.spans_n2[known] * self.config.head.snippets,
            number_n[known],
            self.place_p,
            self.stride_p,
            levels=self.options.levels,
            classes=len(self.classes),
        )

    def _loss(self, pieces: list[Piece], targets: list[MomentTargets]) -> dict[str, Tensor]:
        stacked = MomentTargets(
            wanted_pk=torch.stack([target.wanted_pk for target in targets]).to(self.device),
            distances_p2=torch.stack([target.distances_p2 for target in targets]).to(self.device),
        )
        inputs, seen = moment_input(pieces)
        logits, distances, real = self.model(inputs.to(self.device), seen.to(self.device))
        return moment_loss(logits, distances, real, stacked)
