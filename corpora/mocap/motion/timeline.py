"""Strings captured stretches together into one long performance, and says when each action happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpora.mocap.motion.actions import GET_UP, STANDING_POSES, Action, Posture, lowering
from corpora.mocap.motion.motions import RATE, load, sample
from corpora.mocap.motion.skeleton import (
    JOINTS,
    Floats,
    Track,
    about,
    heading,
    joined,
    moved,
    multiply,
    slerp,
    turned,
)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One labelled action: seconds from the start of the video, and how often it was repeated."""

    label: str
    start: float
    end: float
    repetitions: int


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one actor moves, drawn once a video and without regard to the action.

    Attributes:
        speed: playing speed of everything (1 is as captured).
        turn_radius: metres of the circle that all walking is bent onto; its sign is the side.
        idle_pose: index into :data:`corpora.mocap.motion.actions.STANDING_POSES`.
        sway: radians of slow idle movement of every joint.
    """

    speed: float
    turn_radius: float
    idle_pose: int
    sway: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Style:
        """Draw a style."""
        return Style(
            speed=float(rng.uniform(0.8, 1.3)),
            turn_radius=float(rng.uniform(1.6, 3.0) * rng.choice([-1.0, 1.0])),
            idle_pose=int(rng.integers(len(STANDING_POSES))),
            sway=float(rng.uniform(0.02, 0.06)),
        )


class Performance:
    """A growing track: what is appended starts where the actor is, facing where the actor faces."""

    def __init__(self, style: Style, rng: np.random.Generator) -> None:
        self._style = style
        self._rng = rng
        self._parts: list[Track] = []
        self._frames = 0
        self.posture: Posture = "standing"

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self._frames / RATE

    def idle(self, seconds: float) -> None:
        """Stay in the standing pose of this actor (or, on the floor, in the last one)."""
        count = max(2, round(seconds * RATE))
        if self.posture == "standing":
            motion, second = STANDING_POSES[self._style.idle_pose]
            pose = load(motion)[(first := round(second * RATE)) : first + 1]
        else:
            pose = self._parts[-1][-1:]
        still = joined([pose] * count)
        self._append(_swaying(still, self._style.sway, self._rng), blend=0.35)

    def walk(self, seconds: float) -> None:
        """Walk for about ``seconds``: context, unlabelled."""
        speed = self._style.speed * float(self._rng.uniform(0.85, 1.1))
        cycle = load("walk")
        for _ in range(max(1, round(seconds * RATE * speed / len(cycle)))):
            self._append(_retimed(cycle, speed), blend=0.0 if self._walking else 0.3)
            self._walking = True

    def lower(self, posture: Posture) -> None:
        """Get down onto the belly or the back: context, unlabelled."""
        speed = float(self._rng.uniform(1.6, 2.4))
        self._append(_retimed(lowering(posture), speed), blend=0.3)
        self.posture = posture

    def act(self, action: Action, repetitions: int, pause: tuple[float, float] = (0.0, 0.3)) -> Instance:
        """Play an action; the actor must already be in its starting posture.

        Args:
            action: what to play.
            repetitions: how often in a row.
            pause: range of seconds between repetitions of actions that aren't cyclic.

        Returns:
            The instance, from the first captured frame to the last.
        """
        assert self.posture == action.starts, (self.posture, action.label)
        speed = action.pace * self._style.speed * float(self._rng.uniform(0.92, 1.08))
        start = None
        for number in range(repetitions):
            if number and not action.cyclic:
                self.idle(float(self._rng.uniform(*pause)))
            blend = 0.1 if number and action.cyclic else float(self._rng.uniform(0.2, 0.4))
            begin, end = self._append(_retimed(action.track(), speed), blend=blend)
            start = begin if start is None else start
            self.posture = action.ends
            if number + 1 < repetitions and action.ends != action.starts:
                self.idle(float(self._rng.uniform(0.2, 0.5)))
                self.lower(action.starts)
        assert start is not None, repetitions
        return Instance(label=action.label, start=start, end=end, repetitions=repetitions)

    def rise(self) -> Instance | None:
        """Stand up if on the floor, which is an action of its own."""
        return None if self.posture == "standing" else self.act(GET_UP[self.posture], 1)

    def track(self) -> Track:
        """The whole performance, its path bent onto the actor's circle."""
        return _bent(joined(self._parts), self._style.turn_radius)

    _walking = False

    def _append(self, track: Track, blend: float) -> tuple[float, float]:
        self._walking = False
        if self._parts:
            track = _aligned(track, self._parts[-1])
            if blend:
                bridge = _bridge(self._parts[-1], track, round(blend * RATE))
                self._parts.append(bridge)
                self._frames += len(bridge)
        begin = self.seconds
        self._parts.append(track)
        self._frames += len(track)
        return begin, self.seconds


def at_frame_rate(track: Track, fps: float, frames: int) -> Track:
    """Take ``frames`` poses at ``fps`` from a track at :data:`RATE`; the last pose is held if it is too short."""
    times = np.arange(len(track)) / RATE
    return sample(track, times, np.minimum(np.arange(frames) / fps, times[-1]))


def _retimed(track: Track, speed: float) -> Track:
    times = np.arange(len(track)) / RATE
    return sample(track, times, np.arange(0.0, times[-1] + 1e-9, speed / RATE))


def _aligned(track: Track, before: Track) -> Track:
    """Turn and shift a track so that it starts at the place and heading in which the last one ended."""
    turn = float(heading(before.rotations_tj4[-1, 0]) - heading(track.rotations_tj4[0, 0]))
    track = turned(track, turn, track.root_t3[0])
    return moved(track, (before.root_t3[-1] - track.root_t3[0]) * np.array([1.0, 0.0, 1.0]))


def _bridge(before: Track, after: Track, count: int) -> Track:
    """Blend from the last pose of one track to the first of the next."""
    ramp = (np.arange(count) + 1) / (count + 1)
    weight = ramp * ramp * (3 - 2 * ramp)
    root = before.root_t3[-1] * (1 - weight[:, None]) + after.root_t3[0] * weight[:, None]
    shape = (count, len(JOINTS), 4)
    turns = slerp(
        np.broadcast_to(before.rotations_tj4[-1], shape),
        np.broadcast_to(after.rotations_tj4[0], shape),
        np.repeat(weight[:, None], len(JOINTS), axis=1),
    )
    return Track(root_t3=root, rotations_tj4=turns)


def slow_noise(rng: np.random.Generator, times: Floats, channels: int, slowest: float = 6.0) -> Floats:
    """Smooth noise of about unit size [T, channels]: three sines a channel, periods from 1 s to ``slowest``."""
    periods = rng.uniform(1.0, slowest, (3, 1, channels))
    phases = rng.uniform(0.0, 2 * np.pi, (3, 1, channels))
    return np.asarray(np.sin(2 * np.pi * times[None, :, None] / periods + phases).sum(axis=0) / np.sqrt(1.5))


def _swaying(track: Track, size: float, rng: np.random.Generator) -> Track:
    times = np.arange(len(track)) / RATE
    ramp = np.minimum(1.0, np.minimum(times, times[::-1]) / 0.4)[:, None]
    return with_joint_noise(track, slow_noise(rng, times, 2 * len(JOINTS)) * size * ramp)


def with_joint_noise(track: Track, angles: Floats) -> Track:
    """Turn every joint but the root by small angles [T, 26] about its x and z axes."""
    rotations = track.rotations_tj4.copy()
    for joint in range(1, len(JOINTS)):
        small = multiply(about(0, angles[:, 2 * joint]), about(2, angles[:, 2 * joint + 1]))
        rotations[:, joint] = multiply(rotations[:, joint], small)
    return Track(root_t3=track.root_t3, rotations_tj4=rotations)


def _bent(track: Track, radius: float) -> Track:
    """Bend a path onto a circle: turn by (distance covered / radius), so that nobody walks out of the scene."""
    steps = np.diff(track.root_t3, axis=0, prepend=track.root_t3[:1])
    yaw = np.cumsum(np.hypot(steps[:, 0], steps[:, 2])) / radius
    q = about(1, yaw)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned_steps = np.stack(
        [cos * steps[:, 0] + sin * steps[:, 2], steps[:, 1], -sin * steps[:, 0] + cos * steps[:, 2]], axis=1
    )
    rotations = track.rotations_tj4.copy()
    rotations[:, 0] = multiply(q, rotations[:, 0])
    return Track(root_t3=np.cumsum(turned_steps, axis=0) + track.root_t3[0], rotations_tj4=rotations)
