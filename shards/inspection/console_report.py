"""The lines that people read at the end of a command."""

from __future__ import annotations

from typing import Any

from ..builder.finish import BuildResult
from .verify import VerifyResult

_BARS = " ▁▂▃▄▅▆▇█"


def size_text(size: float) -> str:
    """Return bytes in the unit that reads best (thousands)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def build_lines(result: BuildResult) -> list[str]:
    """Describe what a build came to."""
    verb = {"planned": "would make", "task done": "this task made", "appended": "took up"}.get(
        result.state, "holds"
    )
    lines = [f"{result.dest}: {verb} {result.clips} clips of {result.inputs} inputs"]
    for name, split in result.splits.items():
        expected = " expected" if result.state == "planned" else ""
        line = f"  {name}: {split['clips']} clips in {split['shards']} shards, {size_text(split['bytes'])}{expected}"
        lines.append(line + (f", {split['seconds']:.0f} s of video" if "seconds" in split else ""))
    if result.copied is not None:
        lines.append(
            f"  {result.copied} clips were packed as they are, {result.clips - result.copied} encoded"
        )
    if result.equal_content:
        lines.append(
            f"  {result.equal_content} clips have the same bytes as another clip under a different name"
        )
    if result.rejected:
        stages = ", ".join(f"{stage} {count}" for stage, count in result.rejects.items())
        done = {"finished": "listed in rejects.jsonl there", "appended": "listed in the rejects file there"}
        where = done.get(result.state, "to be listed in rejects.jsonl")
        lines.append(f"  {result.rejected} inputs rejected ({stages}), {where}")
    if result.state == "task done":
        lines.append("  when all tasks are done: pal-shard finish DEST")
    return lines


def verify_lines(result: VerifyResult) -> list[str]:
    """Describe what a verification found."""
    decoded = f", {result.decoded} decoded" if result.decoded else ""
    notes = [f"  note: {note}" for note in result.notes]
    if not result.problems:
        return [f"{result.dest}: sound ({result.shards} shards, {result.clips} clips{decoded})", *notes]
    return [
        f"{result.dest}: {len(result.problems)} problems",
        *(f"  {problem}" for problem in result.problems),
        *notes,
    ]


def stats_lines(found: dict[str, Any]) -> list[str]:
    """Describe a set's statistics, with a small histogram a line."""
    lines = [
        f"{found['dest']}: {found['clips']} clips, profile {found['profile']}, {found['rejected']} rejected"
    ]
    if found["copied"] is not None:
        lines.append(f"  {found['copied']} packed as they were, {found['clips'] - found['copied']} encoded")
    if found["labels"] is not None:
        lines.append(f"  {found['labels']} labels")
    for name, split in found["splits"].items():
        lines.append(
            f"  {name}: {split['clips']} clips, {split['shards']} shards, {size_text(split['bytes'])}, "
            f"{split['seconds'] / 3600:.2f} h, {split['frames']} frames"
        )
        for title, field, form in (
            ("duration", "duration", lambda value: f"{value:.2f} s"),
            ("clip size", "clip_bytes", size_text),
            ("shard size", "shard_bytes", size_text),
        ):
            histogram = split[field]
            if histogram:
                lines.append(
                    f"    {title:<10} {form(histogram['low'])} |{_bars(histogram['counts'])}| "
                    f"{form(histogram['high'])}, mean {form(histogram['mean'])}"
                )
        rates = ", ".join(f"{rate:g} ({count})" for rate, count in split["fps"][:8])
        lines.append(f"    {'fps':<10} {rates}")
    if found["rejects"]:
        lines.append("  rejects:")
        lines += [f"    {stage:<10} {count}" for stage, count in found["rejects"].items()]
    return lines


def listing_lines(found: dict[str, Any]) -> list[str]:
    """List shards, or the samples of one."""
    if "samples" in found:
        return [
            f"{row['key']}  {row['offset']:>12}  {row['size']:>10}  {row['frames']:>6} frames  {row['fps']:g} fps"
            for row in found["samples"]
        ]
    if "splits" in found:
        return [line for name, split in found["splits"].items() for line in _chosen_lines(name, split)]
    return [
        f"{row['name']}  {row['split']}  {row['clips']:>6} clips  {size_text(row['bytes']):>9}  {row['sha256'][:16]}"
        for row in found["shards"]
    ]


def _chosen_lines(name: str, split: dict[str, Any]) -> list[str]:
    """Tell of a split how many clips conditions choose, and of which shards."""
    lines = [f"{row['name']}  {row['clips']:>6} of {row['of']} clips" for row in split["shards"]]
    share = split["clips"] / split["of"] if split["of"] else 0.0
    return [
        *lines,
        f"{name}: {split['clips']} of {split['of']} clips ({share:.1%}), {split['seconds'] / 3600:.2f} hours, "
        f"{size_text(split['bytes'])}",
    ]


def _bars(counts: list[int]) -> str:
    top = max(counts) or 1
    return "".join(_BARS[round(count * (len(_BARS) - 1) / top)] for count in counts)
