"""Every command of the project with its sub-commands, as its own parsers tell them."""

from __future__ import annotations

import argparse
import importlib
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pal_ds.command_line.parser import CommandParser

ROOT = Path(__file__).resolve().parents[2]


def scripts() -> dict[str, str]:
    """Module of each command that an installation has, as imported from a checkout."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {name: entry.split(":")[0].replace("pal_ds.shards", "shards") for name, entry in found.items()}


def top_parsers() -> dict[str, CommandParser]:
    """Parser of each command."""
    return {name: importlib.import_module(module).build_parser() for name, module in scripts().items()}


def parsers() -> dict[str, CommandParser]:
    """Parser of each command and sub-command, by the words that start it."""
    return {name: parser for top in top_parsers().values() for name, parser in below(top)}


def below(parser: CommandParser) -> Iterator[tuple[str, CommandParser]]:
    """A parser, and those of its sub-commands."""
    yield parser.prog, parser
    for word in parser.words.values():
        if word.parser is not None:
            yield from below(word.parser())
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                assert inner.prog == f"{parser.prog} {name}"
                yield from below(inner)


def words_of(command: str) -> tuple[str, list[str]]:
    """Name of a shown command line and its arguments; a launcher's own words are left out."""
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "3"))
    if words[:2] == ["deepspeed", "--module"]:
        name = next(name for name, module in scripts().items() if module == words[2])
        return name, words[3:]
    return words[0], words[1:]


def parse(name: str, words: list[str]) -> argparse.Namespace:
    """Arguments of a command line; a ``SystemExit`` where it doesn't parse."""
    parser = top_parsers()[name]
    if words and words[0] in parser.words:
        inner = parser.words[words[0]].parser
        assert inner is not None or words[1:] == []
        return inner().parse_args(words[1:]) if inner else argparse.Namespace()
    if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions):
        return parser.parse_args(words)
    return parser.parse_intermixed_args(words)
