"""What a run folder tells, gathered for its report; every file but the config may be missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pal_ds import storage
from pal_ds.viz.learning_verdict import judge
from pal_ds.viz.report_page import ReportData


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
    queue = config.get("queue", {})
    return ReportData(
        title=title,
        subtitle="A network learns, from unlabelled video alone, to recognise an action that was cut out, sped up "
        "or slowed down, and pasted somewhere else.",
        facts=_facts(url, config, environment, status, metrics),
        verdict=judge(metrics, queue_size=int(queue.get("size", 0)), mask_unfilled=_masked(config)),
        metrics=metrics,
        queue_size=int(queue.get("size", 0)),
        mask_unfilled=_masked(config),
        events=_lines(url, "events.jsonl"),
        config=config,
        versions={name: str(value) for name, value in environment.get("versions", {}).items()},
    )


def _facts(
    url: str,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    status: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
) -> tuple[tuple[str, str], ...]:
    model, data, synthesis = (config.get(name, {}) for name in ("model", "data", "synthesis"))
    steps = max((int(row["step"]) for row in metrics if "step" in row), default=0)
    device = environment.get("device", {})
    facts = [
        ("State", str(status.get("state", "unknown"))),
        ("Steps", f"{steps}"),
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
