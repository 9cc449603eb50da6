"""Which loss trains the backbone, and which other settings go with it.

PAL (CVPR 2022, Eq. 7) is the default; the others are the methods that its Table 1 compares with, each small, on the
same data, engine and evaluation.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from pal_ds.config.base import ConfigError, check, option
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objectives import OBJECTIVES, refuse_missing
from pal_ds.config.registry import refuse_set
from pal_ds.config.synthesis import SynthesisConfig

NEGATIVES = ("queue", "batch", "both")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Which loss trains the backbone.

    Raises:
        ConfigError: a value out of its range.
    """

    FIXED: ClassVar[bool] = True

    name: str = option(
        "pal",
        "pal (region contrast, Eq. 7), moco (MoCo-v2 on the whole clip sequence, Table 3 row 0), supervised (action "
        "classification, needs a labelled shard set), speed (SpeedNet: how fast does a clip play?), rspnet (RSPNet: "
        "which clip plays as fast?), videomoco (VideoMoCo: keys that age, frames dropped by an adversary), aot "
        "(arrow of time: forwards or backwards?), bsp (boundary-sensitive: what changes between two parts of a "
        "video? needs labels), tsp (TSP: action or background, and which action? needs labels) or vthcl (visual "
        "tempo: a slow and a fast clip of one video, on two levels of the backbone)",
    )
    negatives: str = option(
        "queue", "queue, batch (keys of the other samples of the global micro-batch, no queue) or both"
    )
    same_recording_negatives: bool = option(
        True,
        "whether clips cut from one recording are negatives of one another; false where a small set has many clips "
        "of each recording, which show the same thing",
    )
    dense_weight: float = option(
        0.0,
        "pal: weight of a clip-level term that contrasts clips at equal relative positions of the regions",
    )
    dropout: float = option(0.5, "supervised, speed, aot, bsp, tsp: dropout before the classifier")
    label_smoothing: float = option(0.0, "supervised: label smoothing of the cross-entropy")
    speeds: tuple[int, ...] = option(
        (1, 2),
        "speed, rspnet: playback speeds to tell apart, ascending; at most synthesis.clips. vthcl: frame steps of the "
        "fast and of the slow clip",
    )
    margin: float = option(0.15, "rspnet: margin by which equal speeds must be more similar (paper: 0.15)")
    speed_weight: float = option(1.0, "rspnet: weight of the speed ranking beside the appearance contrast")
    queue_decay: float = option(
        0.99999, "videomoco: factor on a key's weight for every later key in the queue; 1 is MoCo's"
    )
    drop_share: float = option(0.25, "videomoco: share of a query clip's frames that the adversary drops")
    class_weight: float = option(
        1.0,
        "bsp, tsp: weight of the action class beside the boundary or region; bsp: 0 leaves it out (the paper's plain "
        "task), above 0 it is the variant with two heads",
    )
    background: str = option("background", "tsp: the label of clips without action, as in the shard set")
    gvf: str = option(
        "",
        "tsp: path or URL of global video features (pal-eval gvf), concatenated to the features of a clip before it "
        "is told action or background; empty: without them",
    )
    level_weight: float = option(
        1.0, "vthcl: weight of the lower level of the backbone beside the upper one's; above 0"
    )

    def __post_init__(self) -> None:
        refuse_missing(self.name)
        OBJECTIVES.choose(self.name)
        check(
            self.negatives in NEGATIVES,
            "objective.negatives",
            self.negatives,
            f"use one of {', '.join(NEGATIVES)}",
        )
        check(self.dense_weight >= 0, "objective.dense_weight", self.dense_weight, "use 0 or more")
        check(0 <= self.dropout < 1, "objective.dropout", self.dropout, "use a share from 0 to below 1")
        check(
            0 <= self.label_smoothing < 1,
            "objective.label_smoothing",
            self.label_smoothing,
            "use 0 to below 1",
        )
        check(
            len(self.speeds) >= 2 and list(self.speeds) == sorted(set(self.speeds)) and self.speeds[0] >= 1,
            "objective.speeds",
            self.speeds,
            "list at least two whole numbers from 1 up, ascending, e.g. [1, 2]",
        )
        check(self.margin >= 0, "objective.margin", self.margin, "use 0 or more")
        check(self.speed_weight > 0, "objective.speed_weight", self.speed_weight, "use more than 0")
        check(0 < self.queue_decay <= 1, "objective.queue_decay", self.queue_decay, "use above 0, at most 1")
        check(0 <= self.drop_share < 1, "objective.drop_share", self.drop_share, "use 0 to below 1")
        least = 0 if self.name == "bsp" else 1e-6
        check(
            self.class_weight >= least,
            "objective.class_weight",
            self.class_weight,
            "use 0 or more (tsp: above 0; without classes it is bsp or pal that is wanted)",
        )
        check(bool(self.background), "objective.background", self.background, "give the label's name")
        check(self.level_weight > 0, "objective.level_weight", self.level_weight, "use more than 0")


def check_objective(objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
    """Refuse settings that the chosen objective would ignore.

    An option counts as set when it differs from its default. ``queue.size`` is exempt, since every
    pre-training configuration names it; so is the absence of temporal layers where there are none.

    Raises:
        ConfigError: naming the first option without effect.
    """
    name = objective.name
    choice = OBJECTIVES.choose(name)
    OBJECTIVES.check_options(name, "objective", objective)
    _refuse_set("model", model, choice.unused, name)
    if not choice.temporal_head:
        check(
            model.temporal_layers in {0, 2},
            "model.temporal_layers",
            model.temporal_layers,
            f"{name} has no temporal head; remove it",
        )
    if choice.single_view:
        _refuse_set("queue", queue, ("mask_unfilled",), name)
    if objective.negatives == "batch" and queue.mask_unfilled:
        raise ConfigError(
            "queue.mask_unfilled", True, "has no effect with objective.negatives=batch; remove it"
        )


def check_views(objective: ObjectiveConfig, synthesis: SynthesisConfig, group_size: int) -> None:
    """Refuse views that the chosen objective would not look at, or cannot use.

    Raises:
        ConfigError: naming the setting of the synthesis section to change.
    """
    name, views = objective.name, synthesis.views
    choice = OBJECTIVES.choose(name)
    fewest, most = choice.views
    if choice.single_view:
        check(views == 1, "synthesis.views", views, f"objective.name={name} looks at the query alone; use 1")
    wanted = f"{fewest}" if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
    check(
        views >= fewest and (most is None or views <= most),
        "synthesis.views",
        views,
        f"objective.name={name} compares views; use {wanted}",
    )
    check(
        synthesis.paste != "different" or group_size > views,
        "synthesis.views",
        views,
        f"every view wants another background: use data.group_size above it, not {group_size}",
    )
    if "drop_share" in choice.options:
        check(
            objective.drop_share == 0 or round(objective.drop_share * synthesis.clip_frames) >= 1,
            "objective.drop_share",
            objective.drop_share,
            f"drops no frame of {synthesis.clip_frames}; use 0 or a larger share",
        )
    if choice.multi_speed:
        _check_run(objective, synthesis)
    if name == "vthcl":
        _check_tempos(objective.speeds, synthesis.clips)
    check(
        choice.boundaries == (synthesis.paste == "boundary"),
        "synthesis.paste",
        synthesis.paste,
        f"objective.name={name} looks at videos of two parts; use boundary"
        if choice.boundaries
        else f"objective.name={name} knows nothing of boundaries between two videos; only bsp does",
    )


def _check_run(objective: ObjectiveConfig, synthesis: SynthesisConfig) -> None:
    whole = synthesis.region_min == synthesis.region_max == synthesis.clips
    for field, value, holds, fix in (
        ("paste", synthesis.paste, synthesis.paste == "none", "use none"),
        ("region_min", synthesis.region_min, whole, "set region_min = region_max = clips"),
        ("stride_mode", synthesis.stride_mode, synthesis.stride_mode == "span", "use span"),
        (
            "stride_max",
            synthesis.stride_max,
            bool(synthesis.stride_seconds) or synthesis.stride_min == synthesis.stride_max,
            "set stride_min = stride_max",
        ),
        (
            "stride_seconds",
            synthesis.stride_seconds,
            len(set(synthesis.stride_seconds)) <= 1,
            "give one number twice",
        ),
    ):
        check(
            holds,
            f"synthesis.{field}",
            value,
            f"objective.name={objective.name} cuts its speeds out of one run of frames; {fix}",
        )
    check(
        objective.speeds[-1] <= synthesis.clips,
        "objective.speeds",
        objective.speeds,
        f"a view has frames for speeds up to synthesis.clips = {synthesis.clips}",
    )


def _check_tempos(speeds: tuple[int, ...], clips: int) -> None:
    check(
        len(speeds) == 2 and speeds[1] % speeds[0] == 0,
        "objective.speeds",
        speeds,
        "vthcl has a fast and a slow clip of the same span: give two steps, the second a multiple of the first",
    )
    check(
        clips % speeds[1] == 0,
        "objective.speeds",
        speeds,
        f"a view of synthesis.clips = {clips} is cut into spans of {speeds[1]} clips; use a divisor",
    )


def _refuse_set(section: str, values: Any, names: tuple[str, ...], objective: str) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(values)}
    for name in names:
        refuse_set(section, name, getattr(values, name), defaults[name], f"objective.name={objective}")
