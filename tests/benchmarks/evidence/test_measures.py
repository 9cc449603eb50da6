"""Probes of moments and segments: the label itself is read in full, noise is not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.evidence.measures.moments import Moments, moment_figures
from benchmarks.evidence.measures.segments import Segments, neighbours, segment_figures
from benchmarks.evidence.measures.trimmed import clip_id, trimmed_figures

LENGTH, VIDEOS = 60, 12


def videos(seed: int, *, tells: bool) -> list[Moments]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(VIDEOS):
        action = np.zeros(LENGTH, dtype=bool)
        start = rng.integers(5, 30)
        action[start : start + 20] = True
        boundary = np.zeros(LENGTH, dtype=bool)
        boundary[[start, start + 20]] = True
        values = rng.normal(size=(LENGTH, 8)) + 5 * rng.normal(size=8)
        if tells:
            values[:, 0] = 4.0 * action + 5 * rng.normal()
        found.append(Moments(values_tc=values.astype(np.float32), action_t=action, boundary_t=boundary))
    return found


def test_features_that_tell_action_reach_the_ceiling_and_noise_stays_at_the_floor() -> None:
    ones = np.ones(VIDEOS)
    told = {
        name: one.value(ones)
        for name, one in moment_figures(videos(0, tells=True), videos(1, tells=True)).items()
    }
    floor = {
        name: one.value(ones)
        for name, one in moment_figures(videos(0, tells=False), videos(1, tells=False)).items()
    }
    assert told["auc_within"] > 99 and 40 < floor["auc_within"] < 60
    assert told["boundary_auc"] > 90 and 35 < floor["boundary_auc"] < 65
    assert told["boundary_ap"] > 3 * floor["boundary_ap"]
    assert told["auc_pooled"] < told["auc_within"], "videos differ more than moments"


def test_neighbours_vote_and_the_nearest_segment_of_another_video_counts() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 3
    values = 5 * np.eye(3)[label] + 0.1 * rng.normal(size=(60, 3))
    assert (neighbours(values[:40], label[:40], values[40:], 3) == label[40:]).all()
    train = Segments(values_nc=values[:40], label_n=label[:40], video_n=np.arange(40))
    val = Segments(values_nc=values[40:], label_n=label[40:], video_n=np.arange(20))
    found = segment_figures(train, val, 20, 3)
    assert [found[name].value(np.ones(20)) for name in ("segment_knn", "segment_r1")] == [100, 100]
    # Every segment in one video: no other video has any.
    alone = Segments(values_nc=val.values_nc, label_n=val.label_n, video_n=np.zeros(20, dtype=np.int64))
    assert segment_figures(train, alone, 1, 3)["segment_r1"].value(np.ones(1)) < 100


def test_trimmed_clips_are_named_by_both_probes() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    values = 5 * np.eye(3)[label] + 0.1 * rng.normal(size=(90, 3))
    found = trimmed_figures((values[:60], label[:60]), (values[60:], label[60:]), 3)
    assert {name: one.value(np.ones(30)) for name, one in found.items()} == {
        "tac_linear": 100,
        "tac_knn": 100,
    }
    wrong = trimmed_figures((values[:60], label[:60]), (values[60:], (label[60:] + 1) % 3), 3)
    assert wrong["tac_linear"].value(np.ones(30)) == 0


def test_a_clip_is_found_by_kinetics_columns() -> None:
    row = {"youtube_id": "abc", "time_start": "7", "time_end": "17", "label": "x"}
    assert clip_id(row) == "abc_000007_000017"


def test_boundaries_are_seen_in_what_changes() -> None:
    one = videos(0, tells=True)[0]
    changing = one.changing_t2c[:, 8]
    start = int(one.action_t.argmax())
    assert changing[start] == pytest.approx(4, abs=1e-5) and changing[start + 5] == pytest.approx(0, abs=1e-5)
