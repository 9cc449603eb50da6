"""Skeleton, choreography and plan: invariants that no frame needs to be drawn for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora.mocap.corpus_plan import SIZES, plan
from corpora.mocap.motion import actions, skeleton
from corpora.mocap.motion.choreography import LONGEST, MOST_INSTANCES, SHORTEST, trimmed, untrimmed
from corpora.mocap.motion.motions import MOTIONS, RATE, load
from corpora.mocap.motion.timeline import Instance, Style
from corpora.mocap.queries import sentences
from corpora.mocap.rendering.backdrop import Backdrop
from corpora.mocap.rendering.camera import CameraPath, CameraStyle, film
from corpora.mocap.rendering.scene import Scene
from corpora.mocap.rendering.view import View
from corpora.mocap.rng import generator, video_id

LABELS = [action.label for action in actions.ACTIONS]


@pytest.mark.parametrize("name", MOTIONS)
def test_motions_are_unit_quaternions_of_plausible_bodies(name):
    track = load(name)
    assert np.allclose(np.linalg.norm(track.rotations_tj4, axis=-1), 1.0)
    positions, _ = skeleton.forward_kinematics(track, skeleton.Proportions())
    assert -0.15 < positions[..., 1].min() < positions[..., 1].max() < 2.6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.8, 1.2))
def test_bones_keep_their_lengths_whatever_the_pose(seed, legs):
    rng = np.random.default_rng(seed)
    rotations = rng.standard_normal((3, len(skeleton.JOINTS), 4))
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    track = skeleton.Track(root_t3=rng.standard_normal((3, 3)), rotations_tj4=rotations)
    positions, _ = skeleton.forward_kinematics(track, skeleton.Proportions(legs=legs))
    thigh = np.linalg.norm(positions[:, 4] - positions[:, 3], axis=-1)
    assert np.allclose(thigh, 0.421546 * legs)
    back, _ = skeleton.forward_kinematics(
        skeleton.mirrored(skeleton.mirrored(track)), skeleton.Proportions(legs=legs)
    )
    assert np.allclose(back, positions)


def test_mirroring_reflects_the_body():
    track = load("kick")
    positions, _ = skeleton.forward_kinematics(track, skeleton.Proportions())
    reflected, _ = skeleton.forward_kinematics(skeleton.mirrored(track), skeleton.Proportions())
    right, left = skeleton.INDEX["right_ankle"], skeleton.INDEX["left_ankle"]
    assert np.allclose(reflected[:, left], positions[:, right] * [1, 1, -1], atol=1e-9)


def test_there_are_enough_classes_and_each_says_what_it_is():
    assert len(set(LABELS)) == len(LABELS) >= 16
    clauses = [clause for action in actions.ACTIONS for clause in action.sentences]
    assert len(set(clauses)) == len(clauses)


@pytest.mark.parametrize("label", LABELS)
def test_clips_move_without_jumps_and_are_mostly_action(label):
    act = trimmed(label, Style.draw(generator(1, label, "style")), generator(1, label))
    positions, _ = skeleton.forward_kinematics(act.track, skeleton.Proportions())
    fastest = np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() * RATE
    assert fastest < 16.0, "a joint faster than a kick's foot means two stretches don't meet"
    assert len(act.track) >= act.seconds * RATE
    assert {one.label for one in act.instances} == {label}
    assert sum(one.end - one.start for one in act.instances) > 0.25 * act.seconds
    assert act.instances[0].start > 0.2, "a clip starts standing"


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), st.lists(st.sampled_from(LABELS), min_size=1, max_size=2), st.floats(30.0, 110.0)
)
def test_untrimmed_instances_are_in_order_and_inside(seed, labels, seconds):
    act = untrimmed(tuple(labels), seconds, Style.draw(generator(seed, "style")), generator(seed, "act"))
    assert SHORTEST <= act.seconds <= LONGEST
    assert len(act.track) >= act.seconds * RATE - 1e-6
    assert 1 <= len(act.instances) <= MOST_INSTANCES
    times = [time for one in act.instances for time in (one.start, one.end)]
    assert times == sorted(times)
    assert times[0] >= 0.5
    assert times[-1] <= act.seconds
    played = [one.label for one in act.instances]
    assert next(label for label in played if label in labels) == labels[0]


def test_draws_depend_on_every_part_of_the_key():
    keys = [
        (0, "a", "x"),
        (1, "a", "x"),
        (0, "b", "x"),
        (0, "a", "y"),
        (
            0,
            "ax",
        ),
    ]
    values = [generator(key[0], *key[1:]).random() for key in keys]
    assert len(set(values)) == len(keys)
    assert generator(0, "a", "x").random() == values[0]


@pytest.mark.parametrize("size", ["tiny", "small", "full"])
def test_plan_is_balanced_and_its_ids_are_unique(size):
    videos = plan(SIZES[size], 3)
    assert len({video.id for video in videos}) == len({video.path for video in videos}) == len(videos)
    for split in ("train", "val"):
        counts = Counter(v.labels[0] for v in videos if v.kind == "trimmed" and v.split == split)
        assert len(set(counts.values())) == 1
        assert set(counts) == set(LABELS)
    assert all(
        video.width % 2 == 0 and min(video.width, video.height) == SIZES[size].short_side for video in videos
    )
    assert {video.id for video in videos}.isdisjoint(video.id for video in plan(SIZES[size], 4))


def test_small_and_full_have_the_promised_sizes():
    small, full = plan(SIZES["small"], 0), plan(SIZES["full"], 0)
    assert 580 <= sum(v.kind == "trimmed" for v in small) <= 660
    assert sum(v.kind == "untrimmed" for v in small) == 150
    assert len(full) == 10_000
    wanted = Counter(label for v in small if v.kind == "untrimmed" for label in v.labels)
    assert min(wanted[label] for label in LABELS) >= 5


def test_ids_are_safe_as_names():
    names = {video_id(0, "x", number) for number in range(500)}
    assert len(names) == 500
    assert all(len(name) == 11 and name.isascii() and name.isalnum() for name in names)


def test_sentences_of_a_video_mean_one_moment_each():
    instances = tuple(
        Instance(label=label, start=10.0 * n, end=10.0 * n + 4, repetitions=n + 1)
        for n, label in enumerate(["jump", "run", "jump", "punch"])
    )
    for seed in range(50):
        queries = sentences("abc", instances, seed)
        moments: dict[str, set[tuple[float, float]]] = {}
        for query in queries:
            said = (
                query.sentence.removeprefix("the person ").removeprefix("a person ").removeprefix("someone ")
            )
            moments.setdefault(said, set()).add((query.start, query.end))
        assert all(len(times) == 1 for times in moments.values())
        assert {(one.start, one.end) for one in instances} <= {(q.start, q.end) for q in queries}
        assert any("for the second time" in query.sentence for query in queries)


def test_a_level_camera_sees_floor_below_and_wall_above_the_horizon():
    rng = generator(0, "scene")
    place = Scene.draw(rng)
    axes = np.broadcast_to(np.eye(3), (1, 3, 3))
    path = CameraPath(positions=np.array([[0.0, 1.5, 0.0]]), axes=axes, focal=np.array([1.0]))
    with np.errstate(all="raise"):
        picture = Backdrop(place)(View(path, slice(0, 1), 33, 33))[:, 0]
    assert np.isfinite(picture).all()
    assert picture[:, :17].std() > 0
    assert picture[:, 17:].std() > 0


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_cameras_stay_in_the_room_and_keep_the_actor_in_view(seed):
    times = np.arange(120) / 12
    far = np.stack([5 * np.sin(times), np.full(120, 0.9), 5 - 5 * np.cos(times)], axis=1) / 2
    path = film(far, 12, CameraStyle.draw(generator(seed, "camera")), 9.5, generator(seed, "shake"))
    assert np.abs(path.positions[:, [0, 2]]).max() <= 9.5
    assert np.allclose(path.axes @ path.axes.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    seen = View(path, slice(0, 120), 112, 112).project(far[:, None])[:, 0]
    assert (seen[:, 2] > 0).all()
    inside = (np.abs(seen[:, :2] - 56) < 56).all(axis=1)
    assert inside.mean() > 0.6, "a slow operator may lose a runner for a moment"
    assert np.abs(seen[0, :2] - 56).max() < 30
