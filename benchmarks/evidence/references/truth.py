"""References that know what was drawn: joint positions, the label itself, and nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.evidence.references.features import Clips, Rows
from corpora.mocap.corpus_plan import Video
from corpora.mocap.motion.choreography import Act
from corpora.mocap.motion.skeleton import Proportions, about, forward_kinematics, heading, rotate
from corpora.mocap.motion.timeline import Instance
from corpora.mocap.rng import generator
from corpora.mocap.video import actor_track

NOISE_DIM = 64


def noise(clips: Clips) -> Rows:
    """Return numbers that say nothing, float32 [T, 64]; equal for equal videos."""
    drawn = generator(0, clips.video, "noise reference").standard_normal((len(clips.starts), NOISE_DIM))
    return drawn.astype(np.float32)


def one_hot(clips: Clips, instances: Sequence[Instance], names: Sequence[str]) -> Rows:
    """Return the action at the middle of each clip, float32 [T, classes + 1]; the last column is background."""
    hot = np.zeros((len(clips.starts), len(names) + 1), dtype=np.float32)
    for instance in instances:
        inside = (clips.centres >= instance.start) & (clips.centres < instance.end)
        hot[inside, names.index(instance.label)] = 1
    hot[hot.sum(axis=1) == 0, -1] = 1
    return hot


def pose(clips: Clips, video: Video, seed: int, act: Act) -> Rows:
    """Return where the joints are and how they move, float32 [T, 131].

    Joints relative to the root, turned so that the actor faces forward (39), their velocities (39) and speeds (13),
    means over the clip; the spread of the joints over the clip (39); the root's height (1).
    """
    track = actor_track(video, seed, act.track, clips.frames)
    joints_tj3, _ = forward_kinematics(track, Proportions())
    forward = about(1, -heading(track.rotations_tj4[:, 0]))
    local_tj3 = rotate(forward[:, None], joints_tj3 - joints_tj3[:, :1])
    velocity_tj3 = np.gradient(rotate(forward[:, None], joints_tj3), axis=0) * clips.fps
    height_t1 = joints_tj3[:, 0, 1:2]
    rows = []
    for span in clips.spans():
        moves = velocity_tj3[span]
        parts = (
            local_tj3[span].mean(axis=0),
            moves.mean(axis=0),
            np.linalg.norm(moves, axis=-1).mean(axis=0),
            local_tj3[span].std(axis=0),
            height_t1[span].mean(axis=0),
        )
        rows.append(np.concatenate([part.ravel() for part in parts]))
    return np.stack(rows).astype(np.float32)
