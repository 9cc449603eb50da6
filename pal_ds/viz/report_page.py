"""One self-contained page about a run, out of what is handed in.

Pictures are ``data:`` URIs, styles are inline, there is no script and nothing is fetched, so the file can be
mailed and opened anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pal_ds import storage
from pal_ds.pages.stylesheet import stylesheet
from pal_ds.viz.curves import Chart, training_charts
from pal_ds.viz.learning_verdict import Verdict
from pal_ds.viz.style import data_uri


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with what one sees and what would be good or bad; ``data`` is PNG, SVG or WebP.

    ``alt`` says in a sentence what it shows, for readers who can't see it.
    """

    data: bytes
    alt: str
    see: str = ""
    good: str = ""
    bad: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Header and rows of a table; numbers are shown as given, so round them before."""

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A further section: a title, and any of a text, a table, a picture, a link; ``text`` is plain, never HTML.

    ``link`` is the address of another page, as seen from this one, and what it is called.
    """

    title: str
    text: str = ""
    table: Table | None = None
    picture: Picture | None = None
    link: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRun:
    """One command of a pipeline: what it did, how long it took, how it ended."""

    name: str
    seconds: float
    status: str = "ok"
    detail: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report shows; what is empty is left out.

    Attributes:
        title: heading of the page.
        subtitle: one sentence under it.
        facts: name and value of what should be seen first (state, steps, backbone, devices).
        verdict: whether the run has learned anything, and the figures that say so.
        metrics: objects of ``metrics.jsonl``.
        queue_size: K, for the level of a blind guess.
        mask_unfilled: whether unfilled queue rows are no negatives.
        strips: film strips of synthetic training pairs.
        similarity: Fig. 3 pictures.
        events: objects of ``events.jsonl``, shown as a timeline.
        steps: commands that were run, with durations.
        corpus: the videos.
        sections: anything further, e.g. a table of average precision.
        config: the resolved config by section.
        versions: package and version.
        state: of the run, as ``STATUS.json`` says it.
        step: the latest step that the logs know of.
        refresh_seconds: after so many seconds a browser loads the page again; 0 never.
    """

    title: str
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()
    verdict: Verdict | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    queue_size: int = 0
    mask_unfilled: bool = False
    strips: Sequence[Picture] = ()
    similarity: Sequence[Picture] = ()
    events: Sequence[Mapping[str, Any]] = ()
    steps: Sequence[StepRun] = ()
    corpus: Table | None = None
    sections: Sequence[Section] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    state: str = "unknown"
    step: int = 0
    refresh_seconds: int = 0


def render(data: ReportData) -> str:
    """Return the page. All text is escaped; the same data gives the same page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("pal_ds.viz", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    environment.filters["duration"] = duration
    timeline = [event_line(event) for event in data.events if event.get("event") != "replaced"]
    replaced = sum(event.get("event") == "replaced" for event in data.events)
    if replaced:
        timeline.append((None, "note", f"clips that could not be decoded and were replaced: {replaced}"))
    charts, settings = _charts(data), list(_flat(data.config))
    return environment.get_template("report.html").render(
        data=data,
        charts=charts,
        timeline=timeline,
        settings=settings,
        contents=_contents(data, charts, timeline, settings),
        style=stylesheet(),
    )


def write_report(data: ReportData, out_url: str) -> None:
    """Render and write the page to a path or URL.

    Raises:
        StorageError: it can't be written.
    """
    storage.write_bytes(out_url, render(data).encode())


def duration(seconds: float) -> str:
    """Return a time span as people say it: ``8.4 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def event_line(event: Mapping[str, Any]) -> tuple[Any, str, str]:
    """Return step, kind and a plain sentence for one row of ``events.jsonl``."""
    kind = str(event.get("event", "event"))
    sentences = {
        "start": "started",
        "resume": "went on from a checkpoint",
        "preempted": "was asked to stop, saved its state and left",
        "done": "finished",
        "failed": "failed",
        "lr_cut": "learning rate cut",
    }
    rest = {name: value for name, value in event.items() if name not in {"event", "step", "time"} and value}
    details = ", ".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in rest.items())
    sentence = sentences.get(kind, kind.replace("_", " "))
    return event.get("step"), kind, f"{sentence} ({details})" if details else sentence


def _contents(
    data: ReportData, charts: Sequence[Any], timeline: Sequence[Any], settings: Sequence[Any]
) -> list[tuple[str, str]]:
    """Return anchor and name of the parts that the page has, in its order."""
    parts: list[tuple[str, str, Any]] = [
        ("learned", "Has it learned?", data.verdict),
        ("shown", "What the network is shown", data.strips),
        ("seen", "What it has learned to see", data.similarity),
        *((f"more-{number}", section.title, True) for number, section in enumerate(data.sections, 1)),
        ("training", "How training went", charts),
        ("events", "What happened", timeline),
        ("commands", "What was run", data.steps),
        ("videos", "The videos", data.corpus),
        ("settings", "Settings and versions", settings or data.versions),
    ]
    return [(anchor, name) for anchor, name, there in parts if there]


def _charts(data: ReportData) -> list[Chart]:
    marks = [
        (int(event["step"]), str(event["event"]))
        for event in data.events
        if event.get("event") in {"resume", "preempted"} and event.get("step") is not None
    ]
    return training_charts(
        data.metrics, queue_size=data.queue_size, mask_unfilled=data.mask_unfilled, marks=marks
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _plain(value)))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value) or "none"
    return storage.redact(value) if isinstance(value, str) else str(value)
