"""Scenes without their actor: the same otherwise, and nothing in them tells the action."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from benchmarks.evidence.place import figures, thumbnail
from corpora.mocap.corpus_plan import SIZES, plan

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("pybullet_data"), reason="pybullet isn't installed"
)
VIDEOS = [video for video in plan(SIZES["probe"], 3) if video.kind == "trimmed"]


def test_a_scene_without_its_actor_differs_where_the_actor_was_and_is_drawn_alike_twice() -> None:
    whole, empty, again = (
        thumbnail(VIDEOS[0], seed=3, fps=1, empty=empty).reshape(3, 8, 8) for empty in (False, True, True)
    )
    np.testing.assert_array_equal(empty, again)
    changed = np.abs(whole - empty).max(axis=0) > 0.01
    assert 0 < changed.sum() < changed.size, "the actor covers a part of the picture"


def test_figures_have_intervals() -> None:
    names = sorted({video.labels[0] for video in VIDEOS})
    linear, neighbours = figures(VIDEOS[:6], names, 3, 1, empty=True, workers=1)
    assert all(part.endswith("] %") and "[" in part for part in (linear, neighbours))
