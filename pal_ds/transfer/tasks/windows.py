"""What a boundary-map head sees of a video: the whole of it rescaled, or half overlapping windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pal_ds.formats.feature_folder import FeatureError, FloatArray, VideoFeatures, rescale
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.datasets.detection import without_repeats

#: A training window must hold this share of an annotated segment (G-TAD, THUMOS'14).
INSIDE = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """One input of a head.

    Attributes:
        video: its id.
        values_tc: features [T, C]; zeros beyond the video's end.
        origin: second at which the covered time starts.
        extent: seconds covered.
        duration: of the video, seconds.
        segments_n2: annotated segments as shares of the covered time, clipped to [0, 1], float64 [N, 2].
        spans_n2: the same, but not clipped where the piece holds the video's first or last feature: an action may
            begin before the centre of the first clip, float64 [N, 2].
        labels: their classes [N].
        shown: how many of the T features are the video's; those after them are padding.
    """

    video: str
    values_tc: FloatArray
    origin: float
    extent: float
    duration: float
    segments_n2: NDArray[np.float64]
    spans_n2: NDArray[np.float64]
    labels: tuple[str, ...]
    shown: int

    def seconds(self, shares_n2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn shares of the covered time into seconds of the video, clipped to it."""
        return np.clip(self.origin + shares_n2 * self.extent, 0.0, self.duration)


def whole(features: VideoFeatures, annotation: VideoAnnotation, snippets: int) -> Piece:
    """Cover a whole video with ``snippets`` interpolated features (ActivityNet)."""
    segments, spans, labels = _shares(annotation, 0.0, features.duration, first=True, last=True)
    return Piece(
        video=features.video,
        values_tc=rescale(features, snippets),
        origin=0.0,
        extent=features.duration,
        duration=features.duration,
        segments_n2=segments,
        spans_n2=spans,
        labels=labels,
        shown=snippets,
    )


def windows(
    features: VideoFeatures, annotation: VideoAnnotation, snippets: int, *, every: int, training: bool
) -> list[Piece]:
    """Cover a video with windows of ``snippets`` features, each half over the one before (THUMOS'14).

    A short video is padded with zeros; a last window ends at the last feature. For training, only windows that
    hold nearly all of some annotated segment are kept.

    Args:
        features: of the video.
        annotation: of the video.
        snippets: T.
        every: keep each n-th feature.
        training: whether to drop windows without a segment.
    """
    values, centres = features.values_tc[::every], features.centres_t[::every]
    step = features.step * every
    last = max(len(values) - snippets, 0)
    starts = list(range(0, last + 1, max(snippets // 2, 1)))
    if starts[-1] != last:
        starts.append(last)
    pieces = []
    for start in starts:
        origin, extent = float(centres[start]) - step / 2, snippets * step
        if training and not _holds_a_segment(annotation, origin, extent):
            continue
        shown = values[start : start + snippets]
        padded = np.zeros((snippets, values.shape[1]), dtype=np.float32)
        padded[: len(shown)] = shown
        segments, spans, labels = _shares(annotation, origin, extent, first=start == 0, last=start == last)
        pieces.append(
            Piece(
                video=features.video,
                values_tc=padded,
                origin=origin,
                extent=extent,
                duration=features.duration,
                segments_n2=segments,
                spans_n2=spans,
                labels=labels,
                shown=len(shown),
            )
        )
    return pieces


def cut(
    features: VideoFeatures,
    annotation: VideoAnnotation,
    *,
    shape: str,
    snippets: int,
    every: int,
    training: bool,
) -> Sequence[Piece]:
    """Make the pieces of one video by ``data.shape``; in training, repeated and empty segments are dropped."""
    if training:
        annotation = without_repeats(annotation)
    if shape == "windows":
        return windows(features, annotation, snippets, every=every, training=training)
    piece = whole(features, annotation, snippets)
    return [] if training and len(piece.segments_n2) == 0 else [piece]


def stacked_features(pieces: Sequence[Piece]) -> Tensor:
    """Stack the features of pieces as networks take them, float32 [B, C, T].

    Raises:
        FeatureError: they differ in width.
    """
    widths = {piece.values_tc.shape[1] for piece in pieces}
    if len(widths) > 1:
        raise FeatureError(f"features of different widths: {sorted(widths)}, such as of {pieces[0].video!r}")
    return torch.from_numpy(np.stack([piece.values_tc for piece in pieces])).transpose(1, 2)


def _shares(
    annotation: VideoAnnotation, origin: float, extent: float, *, first: bool, last: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Give the segments that lie in the covered time, clipped and as annotated (see ``Piece``), and their classes."""
    seconds = np.array([(segment.start, segment.end) for segment in annotation.segments], dtype=np.float64)
    spans = (seconds.reshape(-1, 2) - origin) / extent
    shares = np.clip(spans, 0.0, 1.0)
    kept = shares[:, 1] > shares[:, 0]
    labels = tuple(segment.label for segment, here in zip(annotation.segments, kept, strict=True) if here)
    reaching = np.clip(spans, -np.inf if first else 0.0, np.inf if last else 1.0)
    return shares[kept], reaching[kept], labels


def _holds_a_segment(annotation: VideoAnnotation, origin: float, extent: float) -> bool:
    for segment in annotation.segments:
        inside = min(segment.end, origin + extent) - max(segment.start, origin)
        if segment.end > segment.start and inside > INSIDE * (segment.end - segment.start):
            return True
    return False
