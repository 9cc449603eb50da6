"""What the project says of itself can be looked up in the project."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Sections that docstrings may cite, as ``docs/<file>.md, "<section>"``.
SECTIONS = {
    "design": {
        *("Synthesis", "Order of data", "Workers and memory", "Objective and queue", "Training loop"),
        *(
            "Checkpoints and resume",
            "Failures and signals",
            "Validation",
            "Extraction",
            "Heads and evaluators",
        ),
    },
    "formats": {"Shard set", "Run folder", "Checkpoint", "Features", "Exit statuses"},
}


def tracked() -> list[Path]:
    """All files of the checkout that git knows, or would take up."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_cited_sections_are_among_those_of_the_documents():
    cited = re.compile(r'docs/(design|formats)\.md,\s+"([^"]+)"')
    for path in tracked():
        if path.suffix == ".py":
            for document, section in cited.findall(path.read_text()):
                assert " ".join(section.split()) in SECTIONS[document], f"{path}: {document}, {section}"


def test_documents_name_only_files_that_are_there():
    name = re.compile(r"`((?:pal_ds|shards|launch|corpora|benchmarks|tests|configs|docs)/[\w/.-]+)`")
    for path in tracked():
        if path.suffix == ".md":
            for found in name.findall(path.read_text()):
                assert (ROOT / found).exists(), f"{path}: {found}"
