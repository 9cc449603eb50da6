"""Every command line that the documents show is one: its options are there, its words are in their places."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support import commands

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("benchmarks/*/README.md")),
]
PATHS = {
    "launch/pretrain.py": "pal-pretrain",
    "launch/extract.py": "pal-extract",
    "launch/transfer.py": "pal-transfer",
}
STARTERS = {"python", "deepspeed", "torchrun", "srun"}


def shown(document: Path) -> list[str]:
    """Lines of a document's blocks, fenced or set in, with lines that go on put together; synopses left out."""
    text = document.read_text().replace("\\\n", " ")
    fenced = [
        line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()
    ]
    set_in = [line for line in text.splitlines() if line.startswith("    ")]
    return [line.strip() for line in (*fenced, *set_in) if "[--" not in line]


def commands_of(line: str) -> list[tuple[str, list[str]]]:
    """Name and arguments of the project's commands in a line of a shell; empty where there are none."""
    found = []
    for part in re.split(r" ; | && | \| |;$", line):
        try:
            words = [word for word in shlex.split(part, comments=True) if word not in {"…", "..."}]
        except ValueError:  # prose in a block
            continue
        modules = {module: name for name, module in commands.scripts().items()}
        names = {**PATHS, **modules, **{name: name for name in commands.scripts()}}
        place = next((number for number, word in enumerate(words) if word in names), None)
        if place is not None and (place == 0 or words[0] in STARTERS):
            found.append((names[words[place]], words[place + 1 :]))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse(document: Path, capsys: pytest.CaptureFixture[str]):
    for line in shown(document):
        for name, words in commands_of(line.replace("$SLURM_ARRAY_TASK_ID", "3")):
            try:
                commands.parse(name, words)
            except SystemExit as error:
                assert not error.code, f"{line}\n{capsys.readouterr().err}"


def test_commands_are_found():
    assert sum(len(commands_of(line)) for document in DOCUMENTS for line in shown(document)) > 60
    assert commands_of("deepspeed --num_accelerators 2 launch/pretrain.py --config x a.b=c  # why") == [
        ("pal-pretrain", ["--config", "x", "a.b=c"])
    ]
