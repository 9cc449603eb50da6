"""How features move along a video: principal components of its clips, ``python -m pal_ds.viz.trajectory``.

One set of components for all shown videos, so that their drawings compare. Actions are shaded; features that know
where an action begins and ends turn there.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.viz.report_page import Picture, ReportData, Section, Table, write_report
from pal_ds.viz.style import ACCENT, ACTION, BACKGROUND, GOOD, INK, SECOND, new_figure, to_bytes

COMPONENTS = 3
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Path:
    """One video's clips in the space of the components.

    Attributes:
        video: its id.
        times_t: centre of each clip, seconds.
        places_tk: components.
        actions: start, end and name of every action, seconds.
    """

    video: str
    times_t: Floats
    places_tk: Floats
    actions: tuple[tuple[float, float, str], ...]

    @property
    def inside_t(self) -> NDArray[np.bool_]:
        """Which clips are centred in an action."""
        inside = np.zeros(len(self.times_t), dtype=bool)
        for start, end, _ in self.actions:
            inside |= (self.times_t >= start) & (self.times_t < end)
        return inside


def principal_components(rows_nc: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Find the directions of largest variance.

    Args:
        rows_nc: [N, C], N at least 2.
        count: of components, at most min(N, C).

    Returns:
        Mean [C], components [count, C] (unit vectors, the largest entry of each positive), and the share of the
        variance that each explains [count].
    """
    mean = rows_nc.mean(axis=0)
    _, strength, directions = np.linalg.svd(rows_nc - mean, full_matrices=False)
    chosen = directions[:count]
    # The sign of a singular vector is arbitrary; fixing it makes equal features give equal pictures.
    chosen = chosen * np.sign(chosen[np.arange(len(chosen)), np.abs(chosen).argmax(axis=1)])[:, None]
    total = float(np.square(strength).sum())
    share = np.square(strength[:count]) / total if total else np.zeros(count)
    return mean, chosen, share


def separation(paths: Sequence[Path]) -> float:
    """Give the distance of action and background clips in the drawn space: between means, in units of the spread.

    NaN where one of them has fewer than two clips.
    """
    places = np.concatenate([path.places_tk for path in paths])
    inside = np.concatenate([path.inside_t for path in paths])
    if min(inside.sum(), (~inside).sum()) < 2:
        return float("nan")
    one, other = places[inside], places[~inside]
    spread = np.sqrt((one.var(axis=0).sum() + other.var(axis=0).sum()) / 2)
    return float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)) / max(spread, 1e-12))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit status 0, or 2 where something can't be read."""
    arguments = _parser().parse_args(argv)
    from pal_ds.formats.feature_folder import FeatureError
    from pal_ds.transfer.datasets.annotations import AnnotationError

    try:
        paths, share = collect(
            arguments.features, arguments.annotations, subset=arguments.subset, count=arguments.count
        )
        write_report(page(paths, share, storage.redact(arguments.features)), arguments.out)
    except (AnnotationError, ConfigError, FeatureError, storage.StorageError) as error:
        sys.stderr.write(f"trajectory: {error}\n")
        return 2
    sys.stdout.write(f"trajectory: {len(paths)} videos in {storage.redact(arguments.out)}\n")
    return 0


def collect(features: str, annotations: str, *, subset: str, count: int) -> tuple[list[Path], Floats]:
    """Read the first ``count`` annotated videos that have features, and project them.

    Raises:
        AnnotationError: the annotations are malformed.
        ConfigError: none of the videos has features.
        FeatureError: the folder or a file of it holds none.
        StorageError: a place can't be read.
    """
    from pal_ds.formats.feature_folder import FeatureStore
    from pal_ds.transfer.datasets.detection import read_detection

    store = FeatureStore(features)
    known = set(store.ids)
    chosen = [
        video for video in read_detection(annotations, subset) if video.video in known and video.segments
    ]
    if not chosen:
        raise ConfigError(
            "--annotations", annotations, f"no annotated video of subset {subset!r} has features"
        )
    loaded = [(video, store.load(video.video)) for video in chosen[:count]]
    rows = np.concatenate([found.values_tc for _, found in loaded]).astype(np.float64)
    mean, directions, share = principal_components(rows, min(COMPONENTS, *rows.shape))
    paths = [
        Path(
            video=video.video,
            times_t=found.centres_t,
            places_tk=(found.values_tc.astype(np.float64) - mean) @ directions.T,
            actions=tuple((segment.start, segment.end, segment.label) for segment in video.segments),
        )
        for video, found in loaded
    ]
    return paths, share


def page(paths: Sequence[Path], share: Floats, source: str) -> ReportData:
    """Lay out a drawing for every video."""
    explained = ", ".join(f"{100 * value:.0f} %" for value in share)
    rows = tuple((path.video, len(path.times_t), len(path.actions)) for path in paths)
    sections = [
        Section(
            title=path.video, picture=Picture(data=draw(path), alt=_alt(path), see=_SEE, good=_GOOD, bad=_BAD)
        )
        for path in paths
    ]
    return ReportData(
        title="Features along time",
        subtitle=f"Principal components of the clip features in {source}.",
        facts=(
            ("Variance explained", explained),
            ("Action against background", f"{separation(paths):.2f} spreads apart"),
        ),
        sections=(
            Section(title="Videos", table=Table(header=("video", "clips", "actions"), rows=rows)),
            *sections,
        ),
    )


_SEE = (
    "Left: the path of the video through the first two components, from dark to bright in time; clips within an "
    "action are filled red. Right: the components along time; actions are shaded."
)
_GOOD = "the path leaves for another place when an action begins, and comes back when it ends"
_BAD = "the path wanders or stands still without regard to the shaded stretches"


def draw(path: Path) -> bytes:
    """Draw one video as PNG."""
    figure = new_figure(10.5, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 2.2])
    across, up = path.places_tk[:, 0], path.places_tk[:, min(1, path.places_tk.shape[1] - 1)]
    left.plot(across, up, color=BACKGROUND, lw=0.7, alpha=0.7)
    left.scatter(across, up, c=path.times_t, cmap="viridis", s=14, lw=0)
    left.scatter(across[path.inside_t], up[path.inside_t], s=26, color=ACTION, lw=0)
    left.set_xlabel("component 1", fontsize=9)
    left.set_ylabel("component 2", fontsize=9)
    for number, colour in zip(range(path.places_tk.shape[1]), (ACCENT, SECOND, GOOD), strict=False):
        right.plot(
            path.times_t, path.places_tk[:, number], color=colour, lw=1.3, label=f"component {number + 1}"
        )
    top = float(np.abs(path.places_tk).max() or 1.0)
    for start, end, label in path.actions:
        right.axvspan(start, end, color=ACTION, alpha=0.16, lw=0)
        right.text((start + end) / 2, 1.05 * top, label, fontsize=7.5, ha="center", color=INK)
    right.set_xlabel("time (s)", fontsize=9)
    right.set_ylim(-1.15 * top, 1.2 * top)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return to_bytes(figure)


def _alt(path: Path) -> str:
    return f"principal components of the {len(path.times_t)} clips of {path.video} along time, actions shaded"


def _parser() -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m pal_ds.viz.trajectory",
        description="Draw how clip features move along annotated videos (principal components), as one HTML page.",
        epilog="example: python -m pal_ds.viz.trajectory --features features/anet --annotations "
        "activity_net.v1-3.min.json --out trajectory.html",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--features", required=True, help="folder or URL that pal-extract wrote")
    add("--annotations", required=True, help="ground truth in ActivityNet's form")
    add("--subset", default="validation", help="subset of the annotations (default: validation)")
    add("--count", type=int, default=8, help="videos that are drawn (default: 8)")
    add("--out", default="trajectory.html", help="file to write (default: trajectory.html)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
