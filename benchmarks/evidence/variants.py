"""The rows of the comparison, in the order in which they are run: floors, ceilings, systems, the paper's tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.evidence.profiles import Profile

CONFIGS = Path(__file__).parent / "configs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One row.

    Attributes:
        name: on the command line.
        title: in tables.
        priority: 0 before 1 and so on; the whole of a priority comes seed by seed.
        reference: features come from :mod:`benchmarks.evidence.references`, not from a network.
        config: file of its settings, without ending; empty for a reference.
        trained: False for a network as it starts.
        start: variant whose backbone it begins with; empty for random weights.
        spans: learns from labelled spans of the untrimmed training videos instead of trimmed clips.
        paper: G-TAD's average mAP on ActivityNet in the paper; None where it has no such row.
        few: ablations have fewer seeds.
    """

    name: str
    title: str
    priority: int
    reference: bool = False
    config: str = ""
    trained: bool = True
    start: str = ""
    spans: bool = False
    paper: float | None = None
    few: bool = False

    def seeds(self, profile: Profile) -> tuple[int, ...]:
        """Seeds that are run. A reference has one: its features have no draw, its heads do."""
        if self.reference:
            return profile.seeds[:1]
        return profile.fewer_seeds if self.few else profile.seeds

    def files(self) -> tuple[Path, ...]:
        """Its config and those below it, in order."""
        found = [CONFIGS / f"{self.config}.yaml"]
        while base := _base(found[-1]):
            found.append(base)
        return tuple(found)


def _reference(name: str, title: str) -> Variant:
    return Variant(name=name, title=title, priority=0, reference=True)


def _trained(name: str, title: str, priority: int, paper: float | None, **more: object) -> Variant:
    folder = "tables/" if name.startswith(("layers", "beta")) else ""
    fields: dict[str, object] = {"config": folder + name, "few": priority > 1, **more}
    return Variant(name=name, title=title, priority=priority, paper=paper, **fields)  # type: ignore[arg-type]  # fields of Variant by name


_ALL = (
    _reference("noise", "noise"),
    _reference("thumbnails", "thumbnails (8 x 8 colours)"),
    _reference("motion", "six motion numbers"),
    _reference("pose", "true pose"),
    _reference("one-hot", "true label, one-hot"),
    Variant(name="random", title="untrained network", priority=1, config="pal", trained=False),
    _trained("pal", "PAL (#4)", 1, 32.8),
    _trained("moco", "MoCo v2 (#0)", 1, 29.6),
    _trained("tac", "TAC", 1, 32.5),
    _trained("supervised", "supervised, same labels", 1, None, spans=True),
    _trained("dense", "dense (#1)", 2, 30.1),
    _trained("scale", "+ scale (#2)", 2, 30.7),
    _trained("same", "same background (#3)", 2, 32.1),
    _trained("layers_0", "PAL, 0 layers", 3, None),
    _trained("layers_1", "PAL, 1 layer", 3, None),
    _trained("layers_3", "PAL, 3 layers", 3, None),
    _trained("beta_00_04", "PAL, beta 0 to 0.4", 4, 30.7),
    _trained("beta_04_06", "PAL, beta 0.4 to 0.6", 4, 31.5),
    _trained("beta_00_10", "PAL, beta 0 to 1", 4, 31.3),
    _trained("beta_1", "PAL, beta 1", 4, 32.2),
    _trained("pal_on_moco", "PAL after MoCo", 5, None, config="pal", start="moco"),
    _trained("moco_on_moco", "MoCo after MoCo", 5, None, config="moco", start="moco"),
    _trained("pal_on_tac", "PAL after TAC", 5, None, config="pal", start="tac"),
    _trained("tac_on_tac", "TAC after TAC", 5, None, config="tac", start="tac"),
)
VARIANTS = {variant.name: variant for variant in _ALL}


def rows(profile: Profile, names: list[str] | None = None) -> list[tuple[Variant, int]]:
    """Return variant and seed of all rows, first things first; every variant of a priority before its second seed."""
    chosen = [VARIANTS[name] for name in names] if names else list(_ALL)
    places = {variant.name: number for number, variant in enumerate(_ALL)}
    found = [(variant, seed) for variant in chosen for seed in variant.seeds(profile)]
    return sorted(found, key=lambda row: (row[0].priority, row[1], places[row[0].name]))


def _base(config: Path) -> Path | None:
    for line in config.read_text().splitlines():
        if line.startswith("base:"):
            return (config.parent / line.partition(":")[2].strip()).resolve()
    return None
