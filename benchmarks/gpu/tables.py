"""The results as Markdown: one table of all steps, then what each found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.plan import PHASES


def markdown(document: dict[str, Any]) -> str:
    """Return a results file as Markdown."""
    steps = document["steps"]
    lines = ["| phase | step | what it answers | state | seconds |", "|---|---|---|---|---:|"]
    known = [step.name for planned in PHASES.values() for step in planned]
    for name in (name for name in known if name in steps):
        one = steps[name]
        lines.append(
            f"| {one['phase']} | {name} | {one['about']} | {one['state']} | {one.get('seconds', '')} |"
        )
    for name in (name for name in known if name in steps):
        lines += ["", f"## {name}", ""]
        if "result" not in steps[name]:
            said = steps[name].get("error", "").strip().splitlines()
            lines.append(f"{steps[name]['state']}: `{said[-1] if said else 'nothing was said'}`")
            continue
        lines += _table(steps[name]["result"])
    return "\n".join(lines) + "\n"


def _table(result: dict[str, Any]) -> list[str]:
    rows = {name: value for name, value in result.items() if _is_rows(value)}
    lines = ["| | |", "|---|---|"]
    lines += [f"| {name} | {_shown(value)} |" for name, value in _flat(result, "") if name not in rows]
    for name, found in rows.items():
        columns = list(dict.fromkeys(column for row in found for column in row))
        lines += ["", f"{name}:", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += [
            "| " + " | ".join(_shown(row.get(column, "")) for column in columns) + " |" for row in found
        ]
    return lines


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}: ")
        elif not _is_rows(inner):
            yield f"{prefix}{name}", inner


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value[:8]) + (" …" if len(value) > 8 else "")
    return str(value).replace("|", "\\|").replace("\n", " ")
