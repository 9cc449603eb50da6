"""What a run folder tells, gathered for its report; every file but the config may be missing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pal_ds import storage
from pal_ds.config import Config, config_from_tree
from pal_ds.viz.learning_verdict import judge
from pal_ds.viz.report_page import ReportData, duration

#: Latest log rows that speed and waiting are taken from.
_PACE_ROWS = 20


class RunError(ValueError):
    """A folder that is no run."""


def collect_run(url: str, *, title: str = "Pre-training run") -> ReportData:
    """Read a run folder into a report without pictures; add them with ``dataclasses.replace``.

    Raises:
        RunError: there is no ``config.yaml`` in it, or it can't be understood.
        StorageError: the store fails.
    """
    config = _config(url)
    environment = _json(url, "environment.json")
    status = _json(url, "STATUS.json")
    metrics = _lines(url, "metrics.jsonl")
    events = _lines(url, "events.jsonl")
    queue = config.get("queue", {})
    return ReportData(
        title=title,
        subtitle="A network learns, from unlabelled video alone, to recognise an action that was cut out, sped up "
        "or slowed down, and pasted somewhere else.",
        facts=_facts(url, config, environment, status, metrics, _total_steps(events)),
        verdict=judge(metrics, queue_size=int(queue.get("size", 0)), mask_unfilled=_masked(config)),
        metrics=metrics,
        queue_size=int(queue.get("size", 0)),
        mask_unfilled=_masked(config),
        events=events,
        config=config,
        state=str(status.get("state", "unknown")),
        step=_latest_step(metrics),
        versions={name: str(value) for name, value in environment.get("versions", {}).items()},
    )


def _facts(
    url: str,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    status: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    total_steps: int | None,
) -> tuple[tuple[str, str], ...]:
    model, data, synthesis = (config.get(name, {}) for name in ("model", "data", "synthesis"))
    step = _latest_step(metrics)
    device = environment.get("device", {})
    facts = [
        ("State", str(status.get("state", "unknown"))),
        ("Steps", f"{step} of {total_steps}" if total_steps else f"{step}"),
        *_pace(metrics, total_steps, data.get("global_batch"), running=status.get("state") == "running"),
        ("Backbone", f"{model.get('backbone', '?')}, width {model.get('width', '?')}"),
        ("Clips", f"{synthesis.get('clip_frames', '?')} frames, {synthesis.get('size', '?')} px"),
        ("Global batch", f"{data.get('global_batch', '?')} videos"),
        ("Precision", str(config.get("precision", "?"))),
        ("Ranks", str(environment.get("world_size", "?"))),
        ("Device", str(device.get("name") or device.get("type") or "?")),
        ("Videos from", storage.redact(str(data.get("shards", "?")))),
        ("Run folder", storage.redact(url)),
    ]
    commit = environment.get("commit")
    return (*facts, ("Code", str(commit)[:12])) if commit else tuple(facts)


def _pace(
    metrics: Sequence[Mapping[str, Any]], total_steps: int | None, global_batch: Any, *, running: bool
) -> list[tuple[str, str]]:
    """Return speed, share of waiting and time left, by the latest rows of a run that goes on."""
    rows = [row for row in metrics if row.get("videos_per_second")][-_PACE_ROWS:]
    if not running or not rows:
        return []
    speed = statistics.median(float(row["videos_per_second"]) for row in rows)
    facts = [("Speed", f"{speed:.1f} videos/s")]
    waits = [float(row["data_wait"]) for row in rows if row.get("data_wait") is not None]
    if waits:
        facts.append(("Waiting for data", f"{100 * statistics.median(waits):.0f} % of the time"))
    if total_steps and global_batch:
        left = max(0, total_steps - _latest_step(metrics)) * int(global_batch) / speed
        facts.append(("Time left", f"about {duration(left)}"))
    return facts


def _latest_step(metrics: Sequence[Mapping[str, Any]]) -> int:
    return max((int(row["step"]) for row in metrics if "step" in row), default=0)


def _total_steps(events: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the length that the latest start gave the run; None in runs of before it was noted."""
    totals = [event["total_steps"] for event in events if event.get("total_steps")]
    return int(totals[-1]) if totals else None


def read_config(url: str) -> Config:
    """Read the config that a run folder keeps.

    Raises:
        RunError: there is none, or it is no YAML.
        ConfigError: it says what no config of this version may.
        StorageError: the store fails.
    """
    return config_from_tree(_config(url))


def _masked(config: Mapping[str, Any]) -> bool:
    return bool(config.get("queue", {}).get("mask_unfilled", False))


def _config(url: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(
            storage.read_bytes(storage.join(url, "config.yaml"), retry=storage.AT_START)
        )
    except storage.StorageNotFoundError as error:
        raise RunError(f"{storage.redact(url)}: no config.yaml in it, so it is no run folder") from error
    except yaml.YAMLError as error:
        raise RunError(f"{storage.redact(url)}/config.yaml: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise RunError(f"{storage.redact(url)}/config.yaml: expected sections")
    return document


def _json(url: str, name: str) -> dict[str, Any]:
    rows = _lines(url, name, whole=True)
    return rows[0] if rows else {}


def _lines(url: str, name: str, *, whole: bool = False) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one a line; a last line cut off by a kill is passed over."""
    try:
        text = storage.read_bytes(storage.join(url, name), retry=storage.AT_START).decode(errors="replace")
    except storage.StorageNotFoundError:
        return []
    rows = []
    for part in [text] if whole else text.splitlines():
        try:
            row = json.loads(part)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
