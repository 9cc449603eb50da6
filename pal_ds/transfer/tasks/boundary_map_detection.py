"""Detection (TAD) and proposals (APG) with a boundary-map head, G-TAD or BMN, on frozen features."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.heads import MapHeadConfig
from pal_ds.config.transfer import TransferConfig
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.datasets.annotations import AnnotationError, VideoAnnotation
from pal_ds.transfer.datasets.detection import read_named
from pal_ds.transfer.heads.boundary_loss import MapLoss, map_loss
from pal_ds.transfer.heads.boundary_map import MapTargets, make_targets, valid_cells
from pal_ds.transfer.heads.release_weights import load_release
from pal_ds.transfer.tasks.base import Results, Task
from pal_ds.transfer.tasks.class_scores import Labeller, SegmentClassifier, VideoScores
from pal_ds.transfer.tasks.map_predictor import MapPredictor
from pal_ds.transfer.tasks.predictor import Reading
from pal_ds.transfer.tasks.windows import Piece, cut, stacked_features


class MapTask(Task):
    """Trains a boundary-map head and reads its maps.

    Args:
        config: of the run.
        labelled: True for detection (proposals get classes), False for proposals.
        device: where the head runs.

    Raises:
        ConfigError: features or annotations don't fit.
        AnnotationError: an annotation file is malformed.
        FeatureError: a feature file is.
    """

    def __init__(self, config: TransferConfig, *, labelled: bool, device: torch.device) -> None:
        data, head = config.data, config.head
        assert isinstance(head, MapHeadConfig)
        self.config, self.device, self.options = config, device, head
        self.head, self.tiou = head.name, config.tiou
        self.metric = "detection" if labelled else "proposals"
        self.truth, self.subset = data.evaluate_annotations or data.annotations, data.evaluate_subset
        self.dataset = data.dataset
        self.store = FeatureStore(data.features)
        other = data.evaluate_features
        self.evaluate_store = FeatureStore(other) if other and other != data.features else self.store
        training = annotated_videos(
            self.store,
            data.annotations,
            data.train_subset,
            data.missing,
            "training",
            dataset=data.dataset,
        )
        self.evaluated = annotated_videos(
            self.evaluate_store, self.truth, self.subset, data.missing, "evaluated", dataset=data.dataset
        )
        self.pieces = [piece for video in training for piece in self._cut(self.store, video, training=True)]
        if not self.pieces:
            raise AnnotationError(data.annotations, "", "no training video shows an annotated segment")
        self.items = len(self.pieces)
        self.targets = [self._targets(piece) for piece in self.pieces]
        self.valid_dt = torch.from_numpy(valid_cells(head.durations, head.snippets).astype(np.float32)).to(
            device
        )
        self.model = build_map_head(head, self.pieces[0].values_tc.shape[1]).to(device)
        labeller: Labeller | None = None
        if labelled and data.class_scores:
            labeller = VideoScores(data.class_scores)
        elif labelled:
            labeller = SegmentClassifier.train(self.store, training, seed=config.run.seed)
        self.predictor = MapPredictor(Reading.of(config), self.model, device, labeller=labeller)

    def losses(self, items: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """See :class:`Task`."""
        loss = self._loss(
            [self.pieces[item] for item in items], [self.targets[item] for item in items], generator
        )
        return {"loss": loss.total, "boundary": loss.boundary, "overlap": loss.overlap, "match": loss.match}

    def evaluation_loss(self, generator: torch.Generator) -> float:
        """See :class:`Task`."""
        total, count = 0.0, 0
        for video in self.evaluated:
            pieces = self._cut(self.evaluate_store, video, training=True)
            if pieces:
                targets = [self._targets(piece) for piece in pieces]
                total += float(self._loss(pieces, targets, generator).total) * len(pieces)
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
        name = "average_mAP" if self.metric == "detection" else "AUC"
        return name, float(figures[name])

    def _cut(self, store: FeatureStore, video: VideoAnnotation, *, training: bool) -> list[Piece]:
        data, snippets = self.config.data, self.config.head.snippets
        features = store.load(video.video)
        return list(
            cut(features, video, shape=data.shape, snippets=snippets, every=data.every, training=training)
        )

    def _targets(self, piece: Piece) -> MapTargets:
        head = self.options
        return make_targets(piece.segments_n2, head.durations, head.snippets, head.boundary_unit)

    def _loss(self, pieces: list[Piece], targets: list[MapTargets], generator: torch.Generator) -> MapLoss:
        batch = {
            field.name: torch.stack([getattr(target, field.name) for target in targets]).to(self.device)
            for field in dataclasses.fields(MapTargets)
        }
        maps, start, end = self.model(stacked_features(pieces).to(self.device))
        head = self.options
        return map_loss(
            maps,
            start,
            end,
            MapTargets(**batch),
            self.valid_dt,
            overlap_weight=head.overlap_weight,
            match_weight=head.match_weight,
            match_prior=head.match_prior,
            generator=generator,
        )


def build_map_head(head: MapHeadConfig, feature_dim: int) -> torch.nn.Module:
    """Build a head that scores a map, with the weights of a release where ``head.weights`` names a file.

    Args:
        head: its options.
        feature_dim: C, channels of the features.

    Raises:
        ConfigError: the weights don't fit.
    """
    model: torch.nn.Module = head.network(feature_dim)
    if head.weights:
        load_release(model, head.weights)
    return model


def annotated_videos(
    store: FeatureStore, annotations: str, subset: str, missing: float, name: str, *, dataset: str = ""
) -> list[VideoAnnotation]:
    """Give the annotated videos of a subset that have features.

    Raises:
        ConfigError: more than the share ``missing`` has none.
    """
    videos = {video.video: video for video in read_named(dataset, annotations, subset) if video.segments}
    return [videos[video] for video in store.present(videos, missing=missing, name=name)]
