"""From a head's maps to scored proposals of a video, and to labelled detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pal_ds.config.transfer import PostConfig
from pal_ds.transfer.heads.boundary_map import cell_segments, valid_cells
from pal_ds.transfer.metrics.tiou import Bools, Floats
from pal_ds.transfer.tasks.soft_nms import soft_nms
from pal_ds.transfer.tasks.windows import Piece


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maps:
    """A head's output for one piece.

    Attributes:
        overlap_dt: regressed overlap [D, T].
        match_dt: probability of a match [D, T].
        start_t: start probabilities [T].
        end_t: end probabilities [T].
    """

    overlap_dt: Floats
    match_dt: Floats
    start_t: Floats
    end_t: Floats


def candidates(maps: Maps, boundary: str) -> tuple[Floats, Floats]:
    """Give the candidate segments of a map and their scores.

    A candidate ends before T, as in the releases of G-TAD (both branches) and BMN (JJBOY's, mmaction2's): boundary
    probabilities end at T - 1.

    Args:
        maps: of one piece.
        boundary: ``none``: overlap times match of every cell; ``peaks``: the same, of cells between a start and an
            end that are peaks or above half the maximum (BSN section 3.3; the first start and the last end
            always count); ``product``: times both boundary probabilities (BMN section 4.3).

    Returns:
        Segments as shares of the covered time [N, 2] and scores [N].
    """
    durations, snippets = maps.overlap_dt.shape
    segments = cell_segments(durations, snippets)
    use = valid_cells(durations + 1, snippets)[1:]
    score = maps.overlap_dt * maps.match_dt
    first = np.broadcast_to(np.arange(snippets), (durations, snippets))
    last = np.minimum(first + np.arange(1, durations + 1)[:, None], snippets - 1)
    if boundary == "peaks":
        starts, ends = _peaks(maps.start_t), _peaks(maps.end_t)
        starts[0], ends[-1] = True, True
        use = use & starts[first] & ends[last]
    elif boundary == "product":
        score = score * maps.start_t[first] * maps.end_t[last]
    return segments[use], score[use]


def propose(pieces: Sequence[Piece], maps: Sequence[Maps], post: PostConfig) -> tuple[Floats, Floats]:
    """Give the proposals of one video.

    Candidates of each piece go through soft-NMS; where a video has several (windows), theirs are joined and go
    through it again, in seconds (G-TAD, THUMOS'14).

    Args:
        pieces: all pieces of the video.
        maps: their maps.
        post: options.

    Returns:
        Segments in seconds [N, 2] and scores [N], by falling score, at most ``post.keep``.
    """
    found, scores = [], []
    for piece, shown in zip(pieces, maps, strict=True):
        segments, score = candidates(shown, post.boundary)
        if post.longest_seconds:
            short = (segments[:, 1] - segments[:, 0]) * piece.extent < post.longest_seconds
            segments, score = segments[short], score[short]
        segments, score = soft_nms(
            segments, score, sigma=post.sigma, keep=post.keep, low=post.low, high=post.high
        )
        seconds = piece.seconds(segments)
        # What lies wholly in the padding behind a short video isn't a segment of it.
        real = seconds[:, 1] > seconds[:, 0]
        found.append(seconds[real])
        scores.append(score[real])
    joined, score = np.concatenate(found), np.concatenate(scores)
    if len(pieces) > 1:
        share = max(piece.duration for piece in pieces)
        joined, score = soft_nms(
            joined / share, score, sigma=post.sigma, keep=post.keep, low=post.low, high=post.high
        )
        joined = joined * share
    return joined, score


def _peaks(probability_t: Floats) -> Bools:
    inner = np.zeros(len(probability_t), dtype=bool)
    middle = probability_t[1:-1]
    inner[1:-1] = (middle > probability_t[:-2]) & (middle > probability_t[2:])
    peaks: Bools = inner | (probability_t > 0.5 * probability_t.max())
    return peaks
