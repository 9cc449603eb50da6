"""The action classes: which stretch of which captured motion each one plays, and how people would say it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from corpora.mocap.motion.motions import RATE, load
from corpora.mocap.motion.skeleton import Track, joined

Posture = Literal["standing", "prone", "supine"]


@dataclass(frozen=True, kw_only=True)
class Action:
    """One class.

    Attributes:
        label: its name, as written into every annotation file.
        motion: the captured motion it is cut from.
        span: seconds of the motion that are played; ``None`` is all of it.
        there_and_back: play the span forwards, then backwards (squats, push-ups).
        pace: speed of playing, 1 as captured; below 1 where a span is the quick part of something faster.
        cyclic: repetitions follow each other without a pause.
        starts, ends: the actor's posture before and after.
        sentences: clauses for queries, third person, without the subject.
    """

    label: str
    motion: str
    sentences: tuple[str, ...]
    span: tuple[float, float] | None = None
    there_and_back: bool = False
    pace: float = 1.0
    cyclic: bool = False
    starts: Posture = "standing"
    ends: Posture = "standing"

    def track(self) -> Track:
        """The captured poses of one repetition, at :data:`corpora.mocap.motion.motions.RATE`."""
        return _cut(self.motion, self.span, self.there_and_back)

    @property
    def seconds(self) -> float:
        """Length of one repetition at speed 1."""
        return len(self.track()) / RATE / self.pace


ACTIONS = (
    Action(
        label="backflip", motion="backflip", sentences=("does a backflip", "flips backwards through the air")
    ),
    Action(
        label="butterfly twist",
        motion="spin",
        span=(0.7, 3.3),
        sentences=("does a butterfly twist", "leaps and twists sideways through the air"),
    ),
    Action(label="cartwheel", motion="cartwheel", sentences=("does a cartwheel", "turns a cartwheel")),
    Action(
        label="crawl",
        motion="crawl",
        cyclic=True,
        starts="prone",
        ends="prone",
        sentences=("crawls on the floor", "crawls forward on the belly"),
    ),
    Action(
        label="dance with raised arms",
        motion="dance_a",
        cyclic=True,
        sentences=("dances with raised arms", "dances, throwing the arms up"),
    ),
    Action(
        label="forward roll", motion="roll", sentences=("does a forward roll", "rolls forward over the floor")
    ),
    Action(
        label="get up from the back",
        motion="getup_faceup",
        starts="supine",
        sentences=("gets up from the back", "stands up after lying on the back"),
    ),
    Action(
        label="get up from the belly",
        motion="getup_facedown",
        starts="prone",
        sentences=("gets up from the belly", "stands up after lying face down"),
    ),
    Action(label="high kick", motion="kick", sentences=("kicks high", "gives a high kick")),
    Action(label="jump", motion="jump", sentences=("jumps forward", "takes a standing jump")),
    Action(
        label="leg raise",
        motion="getup_faceup",
        span=(0.2, 0.9),
        there_and_back=True,
        cyclic=True,
        starts="supine",
        ends="supine",
        sentences=("raises the legs while lying down", "does leg raises on the back"),
    ),
    Action(
        label="punch", motion="punch", span=(0.35, 2.13), sentences=("punches", "throws a straight punch")
    ),
    Action(
        label="push up",
        motion="getup_facedown",
        span=(0.35, 1.45),
        there_and_back=True,
        cyclic=True,
        starts="prone",
        ends="prone",
        sentences=("does push-ups", "pushes the chest up from the floor"),
    ),
    Action(label="run", motion="run", cyclic=True, sentences=("runs", "goes for a run")),
    Action(label="spinning kick", motion="spinkick", sentences=("does a spinning kick", "spins and kicks")),
    Action(
        label="squat",
        motion="jump",
        span=(0.12, 0.52),
        pace=0.6,
        there_and_back=True,
        cyclic=True,
        sentences=("squats", "bends the knees into a squat"),
    ),
    Action(
        label="stepping dance",
        motion="dance_b",
        cyclic=True,
        sentences=("dances from side to side", "dances with crossing steps"),
    ),
    Action(
        label="touch the floor",
        motion="roll",
        span=(0.05, 0.46),
        pace=0.5,
        there_and_back=True,
        cyclic=True,
        sentences=("touches the floor", "bends down and puts both hands on the floor"),
    ),
)
BY_LABEL = {action.label: action for action in ACTIONS}
GET_UP = {"prone": BY_LABEL["get up from the belly"], "supine": BY_LABEL["get up from the back"]}
"""How an actor leaves the floor; wherever it happens it is an instance of that class, and labelled."""

STANDING_POSES = (("jump", 0.0), ("cartwheel", 0.1), ("kick", 0.05), ("getup_facedown", 3.0), ("walk", 0.42))
"""(motion, second) of captured poses in which actors idle; drawn without regard to the action."""


@functools.cache
def _cut(motion: str, span: tuple[float, float] | None, there_and_back: bool) -> Track:
    track = load(motion)
    if span is not None:
        track = track[round(span[0] * RATE) : round(span[1] * RATE)]
    return joined([track, track[::-1]]) if there_and_back else track


def lowering(posture: Posture) -> Track:
    """How an actor gets down: the captured getting-up, backwards (context, never a labelled action)."""
    return GET_UP[posture].track()[::-1]
