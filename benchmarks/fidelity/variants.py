"""The pre-trainings that are compared: the rows of the paper's Table 3, its references, and today's recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One row.

    Attributes:
        name: on the command line; also of its config.
        title: in tables.
        paper: average mAP of G-TAD on ActivityNet in the paper; None where it has no such row.
        contrastive: whether it has a queue.
        trained: False for random weights.
    """

    name: str
    title: str
    paper: float | None
    contrastive: bool = True
    trained: bool = True

    @property
    def config(self) -> Path:
        """Its settings."""
        return CONFIGS / f"{self.name}.yaml"

    def files(self) -> tuple[Path, ...]:
        """Its config and those below it, in order."""
        found = [self.config]
        while base := _base(found[-1]):
            found.append(base)
        return tuple(found)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(name="random", title="random weights", paper=None, trained=False),
        Variant(name="moco", title="MoCo v2 (#0)", paper=29.6),
        Variant(name="dense", title="dense (#1)", paper=30.1),
        Variant(name="scale", title="+ scale (#2)", paper=30.7),
        Variant(name="same", title="same background (#3)", paper=32.1),
        Variant(name="pal", title="PAL (#4)", paper=32.8),
        Variant(name="modern", title="PAL, modern recipe", paper=None),
        Variant(name="tac", title="supervised (TAC)", paper=32.5, contrastive=False),
    )
}


def _base(config: Path) -> Path | None:
    for line in config.read_text().splitlines():
        if line.startswith("base:"):
            return config.parent / line.partition(":")[2].strip()
    return None
