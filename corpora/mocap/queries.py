"""Says in words what happens when, so that each sentence means one moment of its video."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from corpora.mocap.motion.actions import BY_LABEL
from corpora.mocap.motion.timeline import Instance
from corpora.mocap.rng import generator

_TIMES = {1: "once", 2: "twice", 3: "three times"}
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_SUBJECTS = ("the person", "a person", "someone")
_NEAR = 8.0


@dataclass(frozen=True, kw_only=True)
class Query:
    """A moment in seconds and the sentence for it."""

    start: float
    end: float
    sentence: str


def sentences(video: str, instances: tuple[Instance, ...], seed: int) -> list[Query]:
    """Describe a video's instances.

    An action that happens at several times is told apart by its ordinal ("for the second time"); two actions
    shortly after each other may be told as one moment as well.

    Args:
        video: the id; with ``seed`` it keys the choice of words.
        instances: in order of time.
        seed: the corpus seed.
    """
    rng = generator(seed, video, "queries")
    total = Counter(one.label for one in instances)
    seen: Counter[str] = Counter()
    queries = []
    for number, one in enumerate(instances):
        clause = _clause(one, int(rng.integers(8)))
        if total[one.label] > 1:
            clause += f" for the {_ORDINALS[seen[one.label]]} time"
        elif (times := _times(one)) and rng.random() < 0.7:
            clause += f" {times}"
        seen[one.label] += 1
        subject = _SUBJECTS[rng.integers(len(_SUBJECTS))]
        queries.append(Query(start=one.start, end=one.end, sentence=f"{subject} {clause}."))
        after = instances[number + 1] if number + 1 < len(instances) else None
        if after is None or after.start - one.end > _NEAR or rng.random() > 0.4:
            continue
        if total[one.label] == 1 and total[after.label] == 1:
            both = f"{subject} {_clause(one, int(rng.integers(8)))} and then {_clause(after, int(rng.integers(8)))}."
            queries.append(Query(start=one.start, end=after.end, sentence=both))
    return queries


def _clause(one: Instance, choice: int) -> str:
    clauses = BY_LABEL[one.label].sentences
    return clauses[choice % len(clauses)]


def _times(one: Instance) -> str:
    """How often, where that can be counted by eye."""
    return "" if BY_LABEL[one.label].cyclic else _TIMES.get(one.repetitions, "")
