"""How well the moments of a rearranged video are found again in the original: one matrix and its scores."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """One arrangement of a video's frames.

    Attributes:
        title: what was done, for people.
        frames: for every frame of the version, the number of the original frame it shows.
        action: first frame of the action in the version, and the frame after its last.
    """

    title: str
    frames: NDArray[np.int64]
    action: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One matrix and its scores.

    Attributes:
        similarity: cosine of clip features, float32 [clips of the original, clips of the version].
        matched: bool, same shape: pairs of clips that show the same moment (centres less than a stride apart).
        contrast: mean similarity of matched pairs minus that of pairs at least two clips apart.
        action_contrast: the same over the version's action clips only.
        found: share of the version's action clips whose most similar original clip is a matched one.
        chance: that share for a blind guess.
        localised: temporal IoU of the version's action with the stretch of the version that is most similar to the
            original's action as a whole: the paper's claim, equivariance, as a number.
        localised_chance: that overlap for a stretch drawn blindly.
    """

    similarity: NDArray[np.float32]
    matched: NDArray[np.bool_]
    contrast: float
    action_contrast: float
    found: float
    chance: float
    localised: float
    localised_chance: float


def compare(
    original_nc: NDArray[np.float32],
    version_mc: NDArray[np.float32],
    version: Version,
    clip_frames: int,
    stride: int,
    action: tuple[int, int],
) -> Comparison:
    """Score how well a version's clips find the moments they were taken from.

    Args:
        original_nc: features of the original's clips [N, C].
        version_mc: features of the version's clips [M, C].
        version: which original frame each of its frames shows.
        clip_frames: frames per clip.
        stride: frames between clips.
        action: of the original: its first frame, and the frame after its last.
    """
    similarity = _unit(original_nc) @ _unit(version_mc).T
    middles_n = np.arange(len(original_nc)) * stride + (clip_frames - 1) / 2
    starts_m = np.arange(len(version_mc)) * stride
    shown_m = np.array([version.frames[start : start + clip_frames].mean() for start in starts_m])
    # A clip across a cut shows no single moment of the original: it belongs to neither side.
    whole_m = np.array(
        [np.all(np.abs(np.diff(version.frames[start : start + clip_frames])) <= 8) for start in starts_m]
    )
    distance = np.abs(middles_n[:, None] - shown_m[None, :])
    matched = (distance < stride) & whole_m
    apart = (distance >= 2 * clip_frames) & whole_m
    inside = (starts_m >= version.action[0]) & (starts_m + clip_frames <= version.action[1])
    best = similarity.argmax(axis=0)
    columns = np.flatnonzero(inside & matched.any(axis=0))
    localised, blind = _localise(original_nc, version_mc, action, version.action, clip_frames, stride)
    return Comparison(
        similarity=similarity.astype(np.float32),
        matched=matched,
        contrast=_difference(similarity, matched, apart),
        action_contrast=_difference(similarity, matched & inside, apart & inside),
        found=float(matched[best[columns], columns].mean()) if len(columns) else float("nan"),
        chance=float(matched[:, columns].mean()) if len(columns) else float("nan"),
        localised=localised,
        localised_chance=blind,
    )


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return np.asarray(features / lengths, dtype=np.float32)


def _difference(
    similarity: NDArray[np.float32], matched: NDArray[np.bool_], apart: NDArray[np.bool_]
) -> float:
    if not matched.any() or not apart.any():
        return float("nan")
    return float(similarity[matched].mean() - similarity[apart].mean())


def _localise(
    original_nc: NDArray[np.float32],
    version_mc: NDArray[np.float32],
    action: tuple[int, int],
    moved: tuple[int, int],
    clip_frames: int,
    stride: int,
) -> tuple[float, float]:
    """Look for the original's action among all stretches of the version: IoU of the best one, and of a blind guess.

    A stretch is compared by the mean of its clips' features; it covers time by the centres of its clips.
    """
    inside_n = _centred_in(len(original_nc), action, clip_frames, stride)
    inside_m = _centred_in(len(version_mc), moved, clip_frames, stride)
    if not inside_n.any() or not inside_m.any():
        return float("nan"), float("nan")
    query_c = original_nc[inside_n].mean(axis=0)
    count = len(version_mc)
    total = np.concatenate(
        [np.zeros((1, version_mc.shape[1])), np.cumsum(version_mc, axis=0, dtype=np.float64)]
    )
    first, last = np.triu_indices(count)
    mean_wc = (total[last + 1] - total[first]) / (last - first + 1)[:, None]
    similarity_w = _unit(mean_wc.astype(np.float32)) @ _unit(query_c[None])[0]
    true_first, true_last = np.flatnonzero(inside_m)[[0, -1]]
    overlap = np.clip(np.minimum(last, true_last) - np.maximum(first, true_first) + 1, 0, None)
    iou_w = overlap / ((last - first + 1) + (true_last - true_first + 1) - overlap)
    return float(iou_w[similarity_w.argmax()]), float(iou_w.mean())


def _centred_in(clips: int, span: tuple[int, int], clip_frames: int, stride: int) -> NDArray[np.bool_]:
    """Say which clips have their centre within a span of frames."""
    centres = np.arange(clips) * stride + clip_frames / 2
    inside: NDArray[np.bool_] = (centres >= span[0]) & (centres < span[1])
    return inside
