"""Where clips come from: one shard set or several, by weight, each with the part of it that is used."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import ClassVar

from pal_ds.config.base import check, option

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_]+")
#: Conditions that need the clips' records, which lie in the tars; the others need the indexes alone.
_RECORD_FIELDS = ("min_side", "labels", "source", "exclude_source")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Where:
    """Conditions that a clip must meet, all of them; what is left out allows everything (docs/streaming.md)."""

    min_seconds: float = option(0.0, "Shortest clip, in seconds.")
    max_seconds: float = option(0.0, "Longest clip, in seconds; 0 for any.")
    min_frames: int = option(0, "Fewest frames.")
    min_fps: float = option(0.0, "Lowest frame rate.")
    max_fps: float = option(0.0, "Highest frame rate; 0 for any.")
    min_side: int = option(0, "Smallest width and height, in pixels. Read from the clips' records.")
    labels: tuple[str, ...] = option((), "Classes, by name; a clip without a label has none of them.")
    source: str | tuple[str, ...] = option(
        (), "Patterns of the clip's source, such as 'sports/*'; one of them must fit. * also matches /."
    )
    exclude_source: str | tuple[str, ...] = option((), "Patterns of the clip's source; none of them may fit.")
    keys: str = option("", "URL of a text file with the keys of the clips that are used, one a line.")
    exclude_keys: str = option("", "URL of a text file with the keys of clips that are left out, one a line.")

    def __post_init__(self) -> None:
        for name in ("min_seconds", "max_seconds", "min_fps", "max_fps"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("min_seconds", "max_seconds", "min_frames", "min_fps", "max_fps", "min_side"):
            check(getattr(self, name) >= 0, f"where.{name}", getattr(self, name), "use 0 or more")
        for low, high in (("min_seconds", "max_seconds"), ("min_fps", "max_fps")):
            least, most = getattr(self, low), getattr(self, high)
            check(not most or least <= most, f"where.{high}", most, f"use at least {low} = {least:g}")
        for name in ("source", "exclude_source"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, (getattr(self, name),))
            check(all(getattr(self, name)), f"where.{name}", getattr(self, name), "a pattern is empty")

    @property
    def is_everything(self) -> bool:
        """Whether no condition is set."""
        return self == Where()

    @property
    def needs_records(self) -> bool:
        """Whether a condition asks for what only the clips' records in the tars tell."""
        return any(getattr(self, name) for name in _RECORD_FIELDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSource:
    """One shard set of a mix."""

    #: The option that a plain text in the list stands for.
    SHORTHAND: ClassVar[str] = "url"

    url: str = option("", "URL of the shard set.")
    split: str = option("train", "Split to train on.")
    val_split: str | None = option(
        None,
        "Split that joins the validation clips; empty for none of this set. Left out: val, where the set has it.",
    )
    weight: float | None = option(
        None,
        "Share of the clips, relative to the other sets'. Left out in all sets: by their numbers of clips.",
    )
    where: Where = dataclasses.field(default_factory=Where)

    def __post_init__(self) -> None:
        check(bool(self.url), "data.shards: url", self.url, "give the URL of a shard set")
        names = [("split", self.split)] + ([("val_split", self.val_split)] if self.val_split else [])
        for name, value in names:
            check(
                bool(_SPLIT_NAME.fullmatch(value)),
                f"data.shards: {name}",
                value,
                "a split's name is letters, digits and _",
            )
        check(
            self.weight is None or (math.isfinite(self.weight) and self.weight > 0),
            "data.shards: weight",
            self.weight,
            "use a number above 0, or take the set out of the list",
        )


def check_sources(sources: tuple[ShardSource, ...]) -> None:
    """Check a list of shard sets as a whole.

    Raises:
        ConfigError: it is empty, a set is in it twice with one split and condition, only some sets have a weight, or
            the only one has.
    """
    check(bool(sources), "data.shards", [], "give the URL of a shard set made by pal-shard build, or a list")
    check(
        len(sources) > 1 or sources[0].weight is None,
        "data.shards[0].weight",
        sources[0].weight,
        "has no effect with one shard set; remove it",
    )
    given = [source.weight is not None for source in sources]
    check(
        all(given) or not any(given),
        "data.shards",
        [source.weight for source in sources],
        "give every set a weight, or none: then sets count by their numbers of clips",
    )
    places = [(source.url.rstrip("/"), source.split, source.where) for source in sources]
    twice = next((number for number, place in enumerate(places) if places.index(place) < number), None)
    check(
        twice is None,
        f"data.shards[{twice}]",
        "a set",
        "that is in the list twice, with one split and one where: use one entry with a larger weight",
    )
