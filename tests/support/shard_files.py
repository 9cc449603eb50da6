"""Reads what a build made, with nothing of the sharder's own code."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a shard set by source, read with nothing but tarfile."""
    found = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file is not None
                    record = json.loads(file.read())
                    found[record["source"]] = record
    return found


def rejects_of(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


def processes_mentioning(text: str) -> list[str]:
    """Command lines of living processes that hold ``text``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found
