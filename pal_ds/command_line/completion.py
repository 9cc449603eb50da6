"""Completion of a command's options in a shell, by shtab."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping

#: Shells that there are scripts for.
SHELLS = ("bash", "zsh", "fish", "tcsh")
#: Last words of a metavar that stands for a path; what else is a path is told by the option's name.
_PATH_METAVARS = {"FILE", "DIR", "FOLDER", "DEST", "CSV", "GT", "PRED", "RUN", "MODEL", "VIDEO", "URL"}
_PATH_OPTIONS = {"--out", "--checkpoint", "--videos", "--features", "--annotations", "--encoder", "--model"}


def completion(
    parser: argparse.ArgumentParser, words: Mapping[str, tuple[str, argparse.ArgumentParser]], shell: str
) -> str:
    """Return a script that completes a command's options, their choices, and paths.

    Args:
        parser: of the command.
        words: what each first word does that makes another command of it, and its parser.
        shell: one of ``SHELLS``.
    """
    import shtab

    made = _with_words(parser, words)
    _mark_paths(made, shtab.FILE)
    script: str = shtab.complete(made, shell=shell)
    return script + "\n"


def _with_words(
    parser: argparse.ArgumentParser, words: Mapping[str, tuple[str, argparse.ArgumentParser]]
) -> argparse.ArgumentParser:
    """Return a parser of the same options that has the words as sub-commands; shtab knows no other kind."""
    if not words:
        return parser
    made = argparse.ArgumentParser(parser.prog, description=parser.description, add_help=False)
    for action in parser._get_optional_actions():
        made._add_action(copy.copy(action))
    commands = made.add_subparsers(metavar="WORD")
    for word, (about, below) in words.items():
        commands.add_parser(word, help=about, parents=[below], add_help=False)
    return made


def _mark_paths(parser: argparse.ArgumentParser, files: Mapping[str, str]) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _mark_paths(below, files)
        elif action.nargs != 0 and not action.choices:
            last = str(action.metavar or "").split(" ")[-1]
            if last in _PATH_METAVARS or _PATH_OPTIONS & set(action.option_strings):
                action.complete = files  # type: ignore[attr-defined]  # where shtab looks for it
