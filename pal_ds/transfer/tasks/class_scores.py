"""Which action a proposal shows: video-level scores from a file, or a linear classifier of segments."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pal_ds.config.base import ConfigError
from pal_ds.formats.feature_folder import FeatureStore, FloatArray, VideoFeatures
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.datasets.text_file import read_text
from pal_ds.transfer.metrics.tiou import Floats

TRAINING_STEPS = 300


class Labeller(ABC):
    """Names the classes of a video's proposals."""

    @abstractmethod
    def label(
        self, features: VideoFeatures, segments_n2: Floats, count: int
    ) -> list[list[tuple[str, float]]]:
        """Give each proposal's best classes with their probabilities, at most ``count`` each."""


class VideoScores(Labeller):
    """Video-level scores, the same for all proposals of a video (as the papers do, from UntrimmedNet and CUHK).

    Args:
        url: ``{"results": {video: [{"label", "score"}, ...]}}``, or CUHK's ``{"results": {video: [s, ...]},
            "class": [names]}``.

    Raises:
        ConfigError: the file is in neither form.
        AnnotationError: it can't be read.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        text = read_text(url)
        try:
            content = json.loads(text)
            names = content.get("class")
            self.scores = {video: _ranked(rows, names) for video, rows in content["results"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            problem = (
                'is neither {"results": {video: [{label, score}]}} nor {"results": {video: [s]}, "class": []}'
            )
            raise ConfigError("data.class_scores", url, problem) from None

    def label(
        self, features: VideoFeatures, segments_n2: Floats, count: int
    ) -> list[list[tuple[str, float]]]:
        """Give every proposal the video's best classes (see :meth:`best`)."""
        return [self.best(features.video, count)] * len(segments_n2)

    def best(self, video: str, count: int) -> list[tuple[str, float]]:
        """Give a video's best classes with their scores.

        Raises:
            ConfigError: the file has no scores for the video.
        """
        if video not in self.scores:
            raise ConfigError("data.class_scores", self.url, f"has no scores for video {video!r}")
        return self.scores[video][:count]


class SegmentClassifier(Labeller):
    """Softmax regression on the mean feature of a segment.

    It stands in for an external classifier: trained on the annotated segments and the same frozen features, it
    lets features be compared by detection mAP without one. Its figures aren't those of the papers.

    Args:
        names: classes.
        weight_kc: [K, C], for standardised features.
        bias_k: [K].
        mean_c: of the training segments [C].
        scale_c: their standard deviation [C].
    """

    def __init__(
        self,
        names: tuple[str, ...],
        weight_kc: FloatArray,
        bias_k: FloatArray,
        mean_c: FloatArray,
        scale_c: FloatArray,
    ) -> None:
        self.names, self.weight_kc, self.bias_k = names, weight_kc, bias_k
        self.mean_c, self.scale_c = mean_c, scale_c

    @classmethod
    def train(cls, store: FeatureStore, videos: list[VideoAnnotation], *, seed: int = 0) -> SegmentClassifier:
        """Fit to the annotated segments (:func:`fit_softmax`).

        Args:
            store: features of the videos.
            videos: annotations; those without segments are passed over.
            seed: of the initial weights.
        """
        names = tuple(sorted({segment.label for video in videos for segment in video.segments}))
        rows, labels = [], []
        for video in videos:
            if video.segments:
                features = store.load(video.video)
                spans = np.array([(segment.start, segment.end) for segment in video.segments])
                rows.append(pool(features, spans))
                labels += [names.index(segment.label) for segment in video.segments]
        return cls(names, *fit_softmax(np.concatenate(rows), labels, len(names), seed=seed))

    def label(
        self, features: VideoFeatures, segments_n2: Floats, count: int
    ) -> list[list[tuple[str, float]]]:
        """Classify every proposal by itself."""
        if len(segments_n2) == 0:
            return []
        x_nc = (pool(features, segments_n2) - self.mean_c) / self.scale_c
        logits = x_nc @ self.weight_kc.T + self.bias_k
        exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = exponent / exponent.sum(axis=1, keepdims=True)
        best = np.argsort(-probability, axis=1, kind="stable")[:, :count]
        return [
            [(self.names[k], float(row[k])) for k in order]
            for row, order in zip(probability, best, strict=True)
        ]


def fit_softmax(
    x_nc: FloatArray, labels: list[int], classes: int, *, seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Fit a softmax regression: full-batch Adam, a fixed number of steps, weight decay 1e-3, standardised input.

    Args:
        x_nc: features [N, C].
        labels: class numbers [N].
        classes: K.
        seed: of the initial weights.

    Returns:
        Weights [K, C] and bias [K] for standardised features, and the mean [C] and scale [C] that standardise.
    """
    mean, scale = x_nc.mean(axis=0), x_nc.std(axis=0) + 1e-6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(x_nc.shape[1], classes)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2, weight_decay=1e-3)
    inputs, targets = torch.from_numpy((x_nc - mean) / scale), torch.tensor(labels)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(layer(inputs), targets).backward()  # type: ignore[no-untyped-call]  # torch's is untyped
        optimizer.step()
    return layer.weight.detach().numpy(), layer.bias.detach().numpy(), mean, scale


def pool(features: VideoFeatures, segments_n2: Floats) -> FloatArray:
    """Mean feature of each segment: of those centred inside it, or of the nearest one [N, C]."""
    total = np.concatenate(
        [np.zeros((1, features.values_tc.shape[1])), np.cumsum(features.values_tc, axis=0, dtype=np.float64)]
    )
    first = np.searchsorted(features.centres_t, segments_n2[:, 0], side="left")
    last = np.searchsorted(features.centres_t, segments_n2[:, 1], side="right")
    middle = segments_n2.mean(axis=1)
    nearest = np.abs(features.centres_t[None] - middle[:, None]).argmin(axis=1)
    empty = last <= first
    first, last = np.where(empty, nearest, first), np.where(empty, nearest + 1, last)
    mean: FloatArray = ((total[last] - total[first]) / (last - first)[:, None]).astype(np.float32)
    return mean


def _ranked(rows: Any, names: Any) -> list[tuple[str, float]]:
    if names is not None and not isinstance(rows[0], dict):
        pairs = [(str(name), float(score)) for name, score in zip(names, rows, strict=True)]
    else:
        pairs = [(str(row["label"]), float(row["score"])) for row in rows]
    if not all(math.isfinite(score) for _, score in pairs):
        raise ValueError("a score isn't finite")
    return sorted(pairs, key=lambda pair: -pair[1])
