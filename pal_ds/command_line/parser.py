"""The parser of every command: ``--help`` fits a screen, ``--help-all`` has everything."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pal_ds import __version__
from pal_ds.command_line.completion import SHELLS, completion

_HELP = "this help"
_HELP_ALL = "help with all options and details"
#: A word of a command line, quotes and what is in them included.
_WORD = re.compile(r"(?:'[^']*'|[^\s'])+")
#: What stands before the text of a line that is set in: a name and spaces, where it has a name.
_COLUMN = re.compile(r" +(?:\S+ {2,})?")


@dataclasses.dataclass(frozen=True)
class Example:
    """A command line that the help shows.

    Attributes:
        about: what it is for, without a full stop.
        command: the line; the help breaks it where it is too long.
    """

    about: str
    command: str


@dataclasses.dataclass(frozen=True)
class Word:
    """A first word that makes another command of it, such as ``import`` in ``pal-extract import``.

    Attributes:
        about: what it does, without a full stop.
        parser: makes its parser; none where the word takes no options.
    """

    about: str
    parser: Callable[[], CommandParser] | None = None


class CommandParser(argparse.ArgumentParser):
    """A parser with two helps.

    ``--help`` shows the options that most people need, the names of the others, and examples. ``--help-all`` explains
    every option and adds ``details``.

    Args:
        prog: name of the command.
        description: what it does, in a sentence or a few.
        examples: shown in both helps.
        details: text of ``--help-all`` alone; its lines are kept as they are.
        closing: text at the end of both helps, as the exit statuses; its lines are kept as they are.
        words: first words that make another command of it. Whoever calls the parser looks for them.
        top: whether this is a command of its own: it gets ``--version`` and ``--print-completion``.
        options: see ``argparse.ArgumentParser``.
    """

    def __init__(
        self,
        prog: str | None = None,
        *,
        description: str | None = None,
        examples: Sequence[Example] = (),
        details: str = "",
        closing: str = "",
        words: dict[str, Word] | None = None,
        top: bool = False,
        **options: Any,
    ) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog, description=description, allow_abbrev=False, add_help=False, **options)
        self.examples = tuple(examples)
        self.details = details.strip("\n")
        self.closing = closing.strip("\n")
        self.words = dict(words or {})
        self._rare: set[argparse.Action] = set()
        self.add_argument("-h", "--help", action="help", help=_HELP)
        self.add_argument("--help-all", action=_PrintFullHelp, help=_HELP_ALL)
        if top:
            self.add_argument(
                "--version", action="version", version=f"{self.prog} {__version__}", help="print it"
            )
            self.add_argument(
                "--print-completion",
                choices=SHELLS,
                action=_PrintCompletion,
                help="print a script that completes this command's options in that shell",
            )
            self.set_rare("--version", "--print-completion")

    def set_rare(self, *names: str) -> None:
        """Leave the explanation of options to ``--help-all``; ``--help`` only names them.

        Args:
            names: options that have been added, as ``--seed``.

        Raises:
            ValueError: there is no such option, or it is required.
        """
        for name in names:
            action = self._option_string_actions.get(name)
            if action is None or action.required:
                raise ValueError(f"{name}: {'is required' if action else 'no option of'} {self.prog}")
            self._rare.add(action)

    def format_usage(self) -> str:
        """Return the line with what must be given; ``[options]`` stands for the others."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._of_usage(), [])
        return formatter.format_help()

    def format_help(self) -> str:
        """Return the help that fits a screen."""
        return self._format(full=False)

    def format_full_help(self) -> str:
        """Return the help with everything."""
        return self._format(full=True)

    def _of_usage(self) -> list[argparse.Action]:
        actions = [action for action in self._actions if action.help is not argparse.SUPPRESS]
        required = [action for action in actions if action.option_strings and action.required]
        positional = [action for action in actions if not action.option_strings]
        options = argparse.Action([], dest="options", nargs="?", metavar="options")
        return [*required, options, *positional]

    def _format(self, *, full: bool) -> str:
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._of_usage(), [])
        formatter.add_text(_fit(self.description or ""))
        for title, about, actions in self._sections(full=full):
            formatter.start_section(title)
            formatter.add_text(about)
            formatter.add_arguments(actions)
            formatter.end_section()
        for text in (
            _listed(
                "other commands", {f"{self.prog} {word}": entry.about for word, entry in self.words.items()}
            ),
            "" if full else self._rare_names(),
            self.details if full else "",
            self._example_lines(),
            self.closing,
        ):
            formatter.add_text(_fit(text) or None)
        return formatter.format_help()

    def _sections(self, *, full: bool) -> list[tuple[str | None, str | None, list[argparse.Action]]]:
        """Return title, text and arguments of each section; without ``full``, options are one section."""
        left_out = set() if full else self._rare
        if not self._rare and not self.details:
            left_out = {self._option_string_actions["--help-all"]}
        made: list[tuple[str | None, str | None, list[argparse.Action]]] = []
        for group in self._action_groups:
            actions = [
                action
                for action in group._group_actions
                if action not in left_out and action.help is not argparse.SUPPRESS
            ]
            if made and not full and all(action.option_strings for action in (*made[-1][2], *actions)):
                made[-1][2].extend(actions)
            elif actions:
                made.append((group.title, group.description, actions))
        return made

    def _rare_names(self) -> str:
        groups: dict[str, str] = {}
        for group in self._action_groups:
            rare = [
                action.option_strings[-1]
                for action in group._group_actions
                if action in self._rare and action.help is not argparse.SUPPRESS
            ]
            if rare:
                title = (group.title or "").split(" (")[0]
                groups[title] = ", ".join(rare)
        return _listed(f"more, explained by {self.prog} --help-all", groups)

    def _example_lines(self) -> str:
        if not self.examples:
            return ""
        lines = ["examples:"]
        for example in self.examples:
            lines += [f"  {example.about}:", *_broken(example.command)]
        return "\n".join(lines)


class _PrintFullHelp(argparse.Action):
    """Print ``--help-all`` and leave."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(
            option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, CommandParser)
        sys.stdout.write(parser.format_full_help())
        parser.exit()


class _PrintCompletion(argparse.Action):
    """Print the script of a shell and leave."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        assert isinstance(parser, CommandParser)
        words = {word: (entry.about, _parser_of(parser, word)) for word, entry in parser.words.items()}
        sys.stdout.write(completion(parser, words, str(values)))
        parser.exit()


def _parser_of(parser: CommandParser, word: str) -> argparse.ArgumentParser:
    made = parser.words[word].parser
    return argparse.ArgumentParser(f"{parser.prog} {word}", add_help=False) if made is None else made()


def _broken(command: str) -> list[str]:
    """Return a command set in, on as many lines as it needs; an option and its value stay together."""
    parts: list[str] = []
    for word in _WORD.findall(command):
        if parts and re.fullmatch(r"--?[a-z-]+", parts[-1]) and not word.startswith("-"):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    lines = [f"    {parts[0]}"]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 3 > _width():
            lines[-1] += " \\"
            lines.append(f"        {part}")
        else:
            lines[-1] += f" {part}"
    return lines


def _width() -> int:
    """Return the columns that argparse fills."""
    return max(shutil.get_terminal_size().columns - 2, 40)


def _listed(title: str, entries: dict[str, str]) -> str:
    """Return names and texts in two columns below a title, within the terminal's width."""
    if not entries:
        return ""
    column = max(map(len, entries)) + 4
    lines = [f"{title}:"]
    for name, text in entries.items():
        lines += textwrap.wrap(
            text,
            max(_width(), column + 20),
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _fit(text: str) -> str:
    """Return a text within the terminal's width: prose is filled anew, lines set in are broken where too long."""
    made = []
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.splitlines()
        if not any(line.startswith(" ") for line in lines):
            lines = [" ".join(lines)]
        for line in lines:
            column = _COLUMN.match(line)
            indent = " " * (column.end() if column else 0)
            too_long = len(line) > _width() and not line.endswith("\\")
            made += textwrap.wrap(line, _width(), subsequent_indent=indent) if too_long else [line]
        made.append("")
    return "\n".join(made).strip("\n")
