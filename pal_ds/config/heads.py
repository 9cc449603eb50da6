"""The heads that ``head.name`` can name; a new one is its file in ``transfer/heads`` and an entry here.

A head's file holds its options, a dataclass below :class:`HeadConfig`, beside its network: a key of another head is
an unknown key.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

from pal_ds.config.base import ConfigError, check, option
from pal_ds.config.registry import Choice, Registry

_HEADS = "pal_ds.transfer.heads"
_TASKS = "pal_ds.transfer.tasks"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadChoice(Choice):
    """A head; ``build`` names the dataclass of its options.

    Attributes:
        task: ``module:attribute`` of the task that trains it.
        tasks: what ``--task`` it does: of ``tad``, ``apg`` and ``vg``.
        predictor: ``module:attribute`` of what applies it to new videos; empty where nothing does.
        unused: options of other sections without effect, by full name.
        neutral: options of other sections without effect that have to say so, and the value that does.
    """

    task: str
    tasks: tuple[str, ...]
    predictor: str = ""
    unused: tuple[str, ...] = ()
    neutral: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load_task(self) -> Any:
        """Import and return the task."""
        return dataclasses.replace(self, build=self.task).load()

    def load_predictor(self) -> Any:
        """Import and return the predictor; None where there is none."""
        return dataclasses.replace(self, build=self.predictor).load() if self.predictor else None


_MAP_TASK = f"{_TASKS}.boundary_map_detection:MapTask"
_MAP_PREDICTOR = f"{_TASKS}.map_predictor:MapPredictor"
_POST = ("boundary", "sigma", "low", "high", "keep", "longest_seconds", "classes")

HEADS = Registry(
    "head.name",
    (
        HeadChoice(
            name="gtad",
            build=f"{_HEADS}.gtad:GtadConfig",
            task=_MAP_TASK,
            tasks=("tad", "apg"),
            predictor=_MAP_PREDICTOR,
        ),
        HeadChoice(
            name="bmn",
            build=f"{_HEADS}.bmn:BmnConfig",
            task=_MAP_TASK,
            tasks=("apg", "tad"),
            predictor=_MAP_PREDICTOR,
        ),
        HeadChoice(
            name="actionformer",
            build=f"{_HEADS}.actionformer:ActionFormerConfig",
            task=f"{_TASKS}.anchor_free_detection:MomentTask",
            tasks=("tad", "apg"),
            predictor=f"{_TASKS}.moment_predictor:MomentPredictor",
            neutral={"post.boundary": "none"},
        ),
        HeadChoice(
            name="lgi",
            build=f"{_HEADS}.lgi:LgiConfig",
            task=f"{_TASKS}.grounding:GroundingTask",
            tasks=("vg",),
            unused=(
                "data.dataset",
                "data.shape",
                "data.every",
                "data.class_scores",
                *(f"post.{name}" for name in _POST),
            ),
        ),
    ),
)


def heads_of(task: str) -> tuple[str, ...]:
    """Return the names of the heads that do a task."""
    return tuple(name for name, choice in HEADS.items() if task in choice.tasks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What every downstream model has; channel numbers are the releases'."""

    name: str = option("gtad", "tad, apg: gtad, bmn or actionformer; vg: lgi")
    snippets: int = option(
        100, "T: input length; ActivityNet 100 (actionformer: 192), THUMOS'14 256 (2304), LGI 128"
    )

    def __post_init__(self) -> None:
        HEADS.choose(self.name)
        check(self.snippets >= 1, "head.snippets", self.snippets, "use at least 1")

    @classmethod
    def kind_of(cls, tree: Mapping[str, Any]) -> type[HeadConfig]:
        """Return the dataclass of the head that a section names.

        Raises:
            ConfigError: there is no such head.
        """
        if cls is not HeadConfig:
            return cls
        name = tree.get("name", next(iter(HEADS)))
        kind: type[HeadConfig] = HEADS.choose(str(name)).load()
        return kind

    @classmethod
    def kinds(cls) -> dict[str, type[HeadConfig]]:
        """Return the dataclass of every head by name."""
        return {name: choice.load() for name, choice in HEADS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapHeadConfig(HeadConfig, abc.ABC):
    """Options of heads that score a map of all candidate segments."""

    durations: int = option(100, "D: longest candidate in snippets; ActivityNet 100, THUMOS'14 64")
    hidden_1d: int = option(256, "channels of temporal layers")
    hidden_2d: int = option(128, "channels of map convolutions")
    hidden_3d: int = option(512, "channels after the sampled features are merged")
    boundary_unit: tuple[float, float] = option(
        (-0.5, 0.5),
        "boundary i is labelled by the annotated starts or ends in i + these: -0.5, 0.5 (JJBOY's BMN); "
        "-0.5, 1.5 (G-TAD on ActivityNet, mmaction2's BMN); 0, 1 (G-TAD on THUMOS'14)",
    )
    overlap_weight: float = option(
        10.0, "weight of the regressed overlap's loss; G-TAD's release for THUMOS'14: 1"
    )
    match_weight: float = option(1.0, "weight of the match loss; G-TAD's release for THUMOS'14: 10")
    match_prior: float = option(
        0.0, "added to the match loss's numbers of positives and negatives; G-TAD, THUMOS'14: 10"
    )
    weights: str = option(
        "",
        "weights of a release to start from: .pth, .pth.tar or .safetensors with the release's names; "
        "empty: fresh ones",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("durations", "hidden_2d", "hidden_3d"):
            check(getattr(self, name) >= 1, f"head.{name}", getattr(self, name), "use at least 1")
        check(self.hidden_1d % 4 == 0, "head.hidden_1d", self.hidden_1d, "use a multiple of 4 (groups)")
        check(
            self.durations <= self.snippets,
            "head.durations",
            self.durations,
            f"use at most head.snippets = {self.snippets}",
        )
        low, high = self.boundary_unit
        check(low < high, "head.boundary_unit", self.boundary_unit, "use two numbers, the lower one first")
        for name in ("overlap_weight", "match_weight", "match_prior"):
            check(getattr(self, name) >= 0, f"head.{name}", getattr(self, name), "use 0 or more")

    @abc.abstractmethod
    def network(self, feature_dim: int) -> Any:
        """Make the network: features [B, C, T] in; maps [B, 2, D, T], starts and ends [B, T] out."""

    def map_sizes(self) -> dict[str, int]:
        """Return the sizes that every network of this kind takes, by argument."""
        names = ("snippets", "durations", "hidden_1d", "hidden_2d", "hidden_3d")
        return {name: getattr(self, name) for name in names}


def check_head(head: HeadConfig, sections: Mapping[str, Any]) -> None:
    """Refuse settings of other sections that the chosen head would ignore.

    Raises:
        ConfigError: naming the first of them.
    """
    choice = HEADS.choose(head.name)
    for full in choice.unused:
        section, name = full.split(".")
        value = getattr(sections[section], name)
        default = next(each.default for each in dataclasses.fields(sections[section]) if each.name == name)
        check(value == default, full, value, f"has no effect with head.name={head.name}; remove it")
    for full, neutral in choice.neutral.items():
        section, name = full.split(".")
        value = getattr(sections[section], name)
        fix = f"has no effect with head.name={head.name}; set it to {neutral}"
        check(value == neutral, full, value, fix)


def check_task(task: str, head: HeadConfig, sections: Mapping[str, Any]) -> None:
    """Refuse a head that doesn't do the task, and options that only detection reads.

    Raises:
        ConfigError: naming the heads that do, or the option.
    """
    if head.name not in (names := heads_of(task)):
        raise ConfigError("head.name", head.name, f"task {task} takes {' or '.join(names)}")
    if task != "tad":
        for section, name in (("data", "class_scores"), ("post", "classes")):
            value = getattr(sections[section], name)
            fields = dataclasses.fields(sections[section])
            default = next(each.default for each in fields if each.name == name)
            check(
                value == default, f"{section}.{name}", value, f"has no effect with --task {task}; remove it"
            )
