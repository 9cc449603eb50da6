"""The anchor-free targets of all THUMOS'14 validation videos against the release's rule in exact arithmetic."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pal_ds.formats.feature_folder import VideoFeatures
from pal_ds.transfer.datasets.annotations import VideoAnnotation
from pal_ds.transfer.datasets.detection import read_detection
from pal_ds.transfer.heads.actionformer import points
from pal_ds.transfer.heads.anchor_free import make_moment_targets
from pal_ds.transfer.tasks.windows import windows

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "data" / "annotations" / "thumos14.json"
STRIDE, CLIP, LEVELS = 4, 16, 6


def by_the_rule(
    spans: list[tuple[Fraction, Fraction]], labels: list[int], length: int
) -> dict[tuple[int, int], set[int]]:
    """Which (place, stride) answers for which classes; moments lie on whole features."""
    fitting: dict[tuple[int, int], list[tuple[Fraction, int]]] = {}
    for (start, end), label in zip(spans, labels, strict=True):
        centre = (start + end) / 2
        for level in range(LEVELS):
            stride = 2**level
            near = int(centre / stride)
            for place in (stride * (near + step) for step in range(-2, 4)):
                first = max(start, centre - Fraction(3, 2) * stride)
                last = min(end, centre + Fraction(3, 2) * stride)
                farther = max(place - start, end - place)
                low = 0 if level == 0 else 2 * stride
                high = 10_000 if level == LEVELS - 1 else 4 * stride
                if 0 <= place < length and first < place < last and low <= farther <= high:
                    fitting.setdefault((place, stride), []).append((end - start, label))
    return {
        moment: {label for length, label in found if length <= min(found)[0] + Fraction(1, 1000)}
        for moment, found in fitting.items()
    }


def features_of(video: VideoAnnotation, fps: float) -> int:
    return int(video.duration * fps / STRIDE)


def ours(video: VideoAnnotation, fps: float, numbers: dict[str, int]) -> dict[tuple[int, int], set[int]]:
    """The same from what the task trains on: the features' time stamps, a window, shares of it."""
    length = features_of(video, fps)
    snippets = length + (-length) % 2 ** (LEVELS - 1)
    features = VideoFeatures(
        video=video.video,
        values_tc=np.zeros((length, 1), np.float32),
        centres_t=(np.arange(length) * STRIDE + CLIP / 2) / fps,
        duration=video.duration,
        step=STRIDE / fps,
    )
    (piece,) = windows(features, video, snippets, every=1, training=False)
    place, stride = points(snippets, LEVELS)
    targets = make_moment_targets(
        piece.spans_n2 * snippets,
        np.array([numbers[label] for label in piece.labels]),
        place,
        stride,
        levels=LEVELS,
        classes=len(numbers),
    )
    found: dict[tuple[int, int], set[int]] = {}
    for moment, label in torch.nonzero(targets.wanted_pk).tolist():
        if place[moment] < length:
            found.setdefault((int(place[moment] - 0.5), int(stride[moment])), set()).add(label)
    return found


@pytest.fixture(scope="module")
def database() -> dict[str, Any]:
    if not PUBLISHED.exists():
        pytest.skip(f"annotation file thumos14.json isn't at hand ({PUBLISHED.parent})")
    rows: dict[str, Any] = json.loads(PUBLISHED.read_text())["database"]
    return rows


def test_no_moment_of_thumos_validation_differs_from_the_rule(database: dict[str, Any]) -> None:
    videos = read_detection(str(PUBLISHED), "Validation")
    names = sorted({segment.label for video in videos for segment in video.segments})
    numbers = {name: number for number, name in enumerate(names)}
    assert len(names) == 20
    positives = dict.fromkeys(range(20), 0)
    moments = different = 0
    for video in videos:
        fps = Fraction(str(database[video.video]["fps"]))
        spans = [
            tuple(Fraction(str(end)) * fps / STRIDE - Fraction(CLIP, 2 * STRIDE) for end in part["segment"])
            for part in database[video.video]["annotations"]
        ]
        labels = [numbers[part["label"]] for part in database[video.video]["annotations"]]
        wanted = by_the_rule(spans, labels, features_of(video, float(fps)))
        found = ours(video, float(fps), numbers)
        moments += len(wanted)
        different += sum(wanted.get(key) != found.get(key) for key in wanted.keys() | found.keys())
        for classes in found.values():
            for number in classes:
                positives[number] += 1
    assert moments == 10_487
    assert different == 0
    # CliffDiving shares every segment with Diving, so its positives are a part of Diving's and none is lost.
    assert (positives[numbers["CliffDiving"]], positives[numbers["Diving"]]) == (541, 1852)
