"""What happens in a video: a trimmed clip of one action, or an untrimmed string of several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpora.mocap.motion.actions import BY_LABEL, Action
from corpora.mocap.motion.skeleton import Track
from corpora.mocap.motion.timeline import Instance, Performance, Style

CLIP_SECONDS = 10.0
SHORTEST, LONGEST = 30.0, 120.0
MOST_INSTANCES = 5


@dataclass(frozen=True, kw_only=True)
class Act:
    """A performance and its labels.

    Attributes:
        track: poses at :data:`corpora.mocap.motion.motions.RATE`, at least as long as ``seconds``.
        instances: labelled actions, in order, all inside the video.
        seconds: length of the video.
    """

    track: Track
    instances: tuple[Instance, ...]
    seconds: float


def trimmed(label: str, style: Style, rng: np.random.Generator) -> Act:
    """Compose a clip of one action, again and again, after a moment of standing.

    Every clip starts in a standing pose drawn without regard to the action, so that its first frame says
    nothing about what follows.
    """
    action = BY_LABEL[label]
    show = Performance(style, rng)
    show.idle(float(rng.uniform(0.3, 1.0)))
    instances = []
    while show.seconds < CLIP_SECONDS:
        _get_into(show, action, rng)
        instances.append(show.act(action, 1) if not action.cyclic else _until(show, action, CLIP_SECONDS))
        show.idle(float(rng.uniform(0.1, 0.6)))
    return Act(track=show.track(), instances=_inside(instances, CLIP_SECONDS), seconds=CLIP_SECONDS)


def untrimmed(labels: tuple[str, ...], seconds: float, style: Style, rng: np.random.Generator) -> Act:
    """Compose a long video: the actions named, in order, among idling, walking and transitions.

    Args:
        labels: classes to play; getting up from the floor in between is added, and labelled.
        seconds: wanted length; longer where the actions need it, up to :data:`LONGEST`.
        style: how this actor moves.
        rng: draws of repetitions, pauses and speeds.
    """
    counts = [_repetitions(BY_LABEL[label], rng) for label in labels]
    busy = sum(count * BY_LABEL[label].seconds + 2.0 for label, count in zip(labels, counts, strict=True))
    slack = max(seconds - busy / style.speed, 2.0 * (len(labels) + 1))
    gaps = rng.dirichlet(np.full(len(labels) + 1, 2.0)) * slack
    show = Performance(style, rng)
    instances: list[Instance] = []
    for number, (label, count, gap) in enumerate(zip(labels, counts, gaps, strict=False)):
        _pass_time(show, max(1.0, float(gap)), rng)
        action = BY_LABEL[label]
        _get_into(show, action, rng)
        instances.append(show.act(action, count))
        last = number + 1 == len(labels)
        if show.posture != "standing" and not (last and rng.random() < 0.5):
            show.idle(float(rng.uniform(0.3, 1.5)))
            risen = show.rise()
            assert risen is not None
            instances.append(risen)
    _pass_time(show, max(1.0, float(gaps[-1]), SHORTEST - show.seconds), rng)
    if show.seconds < SHORTEST:
        show.idle(SHORTEST - show.seconds + 0.1)
    length = min(LONGEST, show.seconds)
    return Act(track=show.track(), instances=_inside(instances, length), seconds=length)


def cost(label: str) -> int:
    """How many instances an action brings with it: two where the actor must get up again."""
    return 1 if BY_LABEL[label].ends == "standing" else 2


def _until(show: Performance, action: Action, seconds: float) -> Instance:
    return show.act(action, max(1, int(np.ceil((seconds - show.seconds) / (action.seconds / 1.5)))))


def _get_into(show: Performance, action: Action, rng: np.random.Generator) -> None:
    if show.posture != action.starts:
        show.lower(action.starts)
        show.idle(float(rng.uniform(0.2, 0.6)))


def _pass_time(show: Performance, seconds: float, rng: np.random.Generator) -> None:
    """Idle and walk for ``seconds`` (lie, if on the floor)."""
    end = show.seconds + seconds
    while (left := end - show.seconds) > 0.4:
        if show.posture == "standing" and left > 2.5 and rng.random() < 0.5:
            show.walk(float(rng.uniform(2.0, min(6.0, left))))
        else:
            show.idle(float(min(left, rng.uniform(0.8, 4.0))))


def _repetitions(action: Action, rng: np.random.Generator) -> int:
    if action.cyclic:
        return max(1, round(float(rng.uniform(2.5, 12.0)) / action.seconds))
    return int(rng.choice([1, 1, 2, 3])) if action.starts == "standing" else 1


def _inside(instances: list[Instance], seconds: float) -> tuple[Instance, ...]:
    """Clip to the video; what has less than half of itself (or under half a second) left is dropped."""
    kept = []
    for one in instances:
        end = min(one.end, seconds)
        if end - one.start >= max(0.5, (one.end - one.start) / 2) or (
            end == seconds and end - one.start >= 2.0
        ):
            kept.append(Instance(label=one.label, start=one.start, end=end, repetitions=one.repetitions))
    return tuple(kept)
