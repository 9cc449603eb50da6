"""What references say of a video whose content is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.evidence.references.features import Clips, Standard, write
from benchmarks.evidence.references.pictures import motion, thumbnails
from benchmarks.evidence.references.truth import noise, one_hot
from corpora.mocap.motion.timeline import Instance
from pal_ds.formats.feature_folder import FeatureStore

CLIPS = Clips(video="v", frames=40, fps=8.0, stride=8)


def test_clips_lie_as_the_extractor_puts_them() -> None:
    assert CLIPS.centres.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    short = Clips(video="s", frames=5, fps=8.0, stride=8)
    assert [span.stop for span in short.spans()] == [5]


def test_one_hot_names_the_action_at_the_middle_of_a_clip() -> None:
    found = one_hot(CLIPS, [Instance(label="b", start=1.4, end=3.0, repetitions=1)], ["a", "b"])
    assert found.argmax(axis=1).tolist() == [2, 1, 1, 2, 2]


def test_noise_is_of_a_video_and_says_nothing_of_the_time() -> None:
    assert (noise(CLIPS) == noise(CLIPS)).all()
    assert not (noise(CLIPS) == noise(Clips(video="w", frames=40, fps=8.0, stride=8))).any()


def test_thumbnails_see_colour_and_no_motion_and_motion_the_reverse() -> None:
    frames = torch.zeros(40, 3, 16, 16, dtype=torch.uint8)
    frames[16:24:2, :, :, 12:] = 200  # something flickers at the right, in the third clip
    frames[24:] = 100
    colour, moved = thumbnails(CLIPS, frames), motion(CLIPS, frames)
    assert colour.shape == (5, 192) and moved.shape == (5, 6)
    assert colour[4] == pytest.approx(100 / 255, abs=1e-5)
    assert moved[0, 0] == 0 and moved[2, 0] > 0 and moved[4, 0] == 0
    assert moved[2, 2] > 0.7, "centre of gravity, from the left"


def test_columns_are_standardised_by_other_videos_and_filled_up_to_what_heads_take() -> None:
    rows = np.random.default_rng(0).normal(3, 5, (200, 6)).astype(np.float32)
    rows[:, 2] = 7
    scale = Standard.of(rows)
    found = scale(rows[:50])
    assert found.shape == (50, 8) and not found[:, [2, 6, 7]].any()
    assert abs(found[:, 0].mean()) < 0.5 and found[:, 0].std() == pytest.approx(1, rel=0.2)


def test_features_are_read_back_as_those_of_a_network(tmp_path) -> None:
    write(tmp_path, CLIPS, np.arange(10, dtype=np.float32).reshape(5, 2), "test")
    found = FeatureStore(str(tmp_path)).load("v")
    assert found.centres_t.tolist() == CLIPS.centres.tolist()
    assert found.values_tc[4].tolist() == [8, 9]
