"""The corpus as a list: every video's id, split and labels, known before the first frame is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from corpora.mocap.motion.actions import ACTIONS
from corpora.mocap.motion.choreography import MOST_INSTANCES, SHORTEST, cost
from corpora.mocap.rng import generator, video_id

Split = Literal["train", "val"]
Codec = Literal["h264", "mpeg4"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is made, and how fine.

    Attributes:
        train, val: trimmed clips of each class. long_train, long_val: untrimmed videos.
        longest: upper end of the wanted length of untrimmed videos, seconds.
        fps: frames per second. short_side: pixels.
        codec: ``h264``, or ``mpeg4``, which takes little more space at such sizes and decodes in half the time.
    """

    train: int
    val: int
    long_train: int
    long_val: int
    longest: float
    fps: int
    short_side: int
    codec: Codec = "h264"


SIZES = {
    "tiny": Size(train=2, val=1, long_train=6, long_val=4, longest=45.0, fps=8, short_side=64),
    "demo": Size(train=1, val=1, long_train=48, long_val=24, longest=36.0, fps=8, short_side=64),
    "small": Size(train=29, val=7, long_train=100, long_val=50, longest=100.0, fps=12, short_side=112),
    "probe": Size(
        train=2, val=1, long_train=8, long_val=6, longest=32.0, fps=8, short_side=40, codec="mpeg4"
    ),
    "development": Size(
        train=56, val=8, long_train=100, long_val=60, longest=60.0, fps=12, short_side=64, codec="mpeg4"
    ),
    "evidence": Size(
        train=280, val=28, long_train=420, long_val=200, longest=60.0, fps=12, short_side=64, codec="mpeg4"
    ),
    "evidence-large": Size(
        train=280, val=28, long_train=420, long_val=200, longest=60.0, fps=12, short_side=128, codec="mpeg4"
    ),
    "full": Size(train=390, val=60, long_train=1400, long_val=500, longest=110.0, fps=25, short_side=256),
}


@dataclass(frozen=True, kw_only=True)
class Video:
    """One video to make.

    Attributes:
        id: 11 characters; also the key of all its draws.
        kind: trimmed or untrimmed. split: train or val.
        labels: the class of a trimmed clip; the wanted sequence of an untrimmed video.
        seconds: wanted length. offset: second at which a trimmed clip pretends to lie in its source.
        fps, width, height, codec: of the encoded video.
    """

    id: str
    kind: Literal["trimmed", "untrimmed"]
    split: Split
    labels: tuple[str, ...]
    seconds: float
    offset: int
    fps: int
    width: int
    height: int
    codec: Codec

    @property
    def path(self) -> str:
        """Where it lies in the corpus: Kinetics' naming, or ActivityNet's."""
        if self.kind == "untrimmed":
            return f"untrimmed/videos/v_{self.id}.mp4"
        return f"trimmed/videos/{self.labels[0]}/{self.id}_{self.offset:06d}_{self.offset + 10:06d}.mp4"


def plan(size: Size, seed: int) -> list[Video]:
    """List every video of a corpus, trimmed first, in a fixed order."""
    return _trimmed(size, seed) + _untrimmed(size, seed)


def _width(seed: int, name: str, short_side: int) -> int:
    """Draw a width between square and 16:10, even, so that aspect ratios differ."""
    ratio = float(generator(seed, name, "aspect").choice([1.0, 8 / 7, 4 / 3, 1.5]))
    return round(short_side * ratio / 2) * 2


def _trimmed(size: Size, seed: int) -> list[Video]:
    videos = []
    for action in ACTIONS:
        for number in range(size.train + size.val):
            name = video_id(seed, "trimmed", action.label, number)
            videos.append(
                Video(
                    id=name,
                    kind="trimmed",
                    split="train" if number < size.train else "val",
                    labels=(action.label,),
                    seconds=10.0,
                    offset=int(generator(seed, name, "offset").integers(0, 300)),
                    fps=size.fps,
                    width=_width(seed, name, size.short_side),
                    height=size.short_side,
                    codec=size.codec,
                )
            )
    return videos


def _untrimmed(size: Size, seed: int) -> list[Video]:
    videos: list[Video] = []
    halves: tuple[tuple[Split, int], ...] = (("train", size.long_train), ("val", size.long_val))
    for split, count in halves:
        deck = _Deck(generator(seed, "untrimmed", split, "deck"))
        for number in range(count):
            name = video_id(seed, "untrimmed", split, number)
            rng = generator(seed, name, "plan")
            videos.append(
                Video(
                    id=name,
                    kind="untrimmed",
                    split=split,
                    labels=_labels(deck, rng),
                    seconds=float(SHORTEST + (size.longest - SHORTEST) * rng.beta(1.0, 2.0)),
                    offset=0,
                    fps=size.fps,
                    width=_width(seed, name, size.short_side),
                    height=size.short_side,
                    codec=size.codec,
                )
            )
    return videos


class _Deck:
    """Deals classes so that each comes up equally often."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._cards: list[str] = []

    def deal(self) -> str:
        if not self._cards:
            order = self._rng.permutation(len(ACTIONS))
            self._cards = [ACTIONS[number].label for number in order]
        return self._cards.pop()


def _labels(deck: _Deck, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw 1 to 5 instances: of one class (as ActivityNet mostly has) or of several (as Charades has)."""
    wanted, same = int(rng.integers(1, MOST_INSTANCES + 1)), bool(rng.random() < 0.4)
    labels = [deck.deal()]
    while len(labels) < wanted:
        label = labels[0] if same else deck.deal()
        if sum(cost(one) for one in [*labels, label]) > MOST_INSTANCES:
            break
        labels.append(label)
    return tuple(labels)
