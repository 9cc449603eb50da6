"""Help of every command and sub-command: it fits a screen, leaves no option out, and its examples are right."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from pal_ds.command_line.parser import CommandParser, Example
from tests.support import commands

COLUMNS, LINES = 100, 50
NAMES = sorted(commands.parsers())


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def visible(parser: CommandParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.help is not argparse.SUPPRESS]


def test_all_commands_are_looked_at():
    assert set(commands.scripts()) <= set(NAMES)
    assert {"pal-shard build", "pal-eval gvf", "pal-extract import", "pal-transfer export"} <= set(NAMES)
    assert {"pal-pretrain export", "pal-pretrain doctor", "pal-shard compact"} <= {
        *NAMES,
        *(f"pal-pretrain {word}" for word in commands.top_parsers()["pal-pretrain"].words),
    }


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_a_screen(name: str):
    lines = commands.parsers()[name].format_help().splitlines()
    assert len(lines) <= LINES, f"{len(lines)} lines"
    assert not [line for line in lines if len(line) > COLUMNS]


@pytest.mark.parametrize("name", NAMES)
def test_both_helps_name_every_option_and_the_full_one_explains_it(name: str):
    parser = commands.parsers()[name]
    short, full = parser.format_help(), parser.format_full_help()
    more = parser._rare or parser.details
    for action in visible(parser):
        for option in action.option_strings[-1:]:
            if option == "--help-all" and not more:
                assert option not in short + full
                continue
            assert option in short, option
            assert action.help
            assert f"  {', '.join(action.option_strings)}" in full.replace("\n", " ") or option in full, (
                option
            )
    if not more:
        assert short == full


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_two_to_four_and_parse(name: str, capsys: pytest.CaptureFixture[str]):
    examples = commands.parsers()[name].examples
    assert 2 <= len(examples) <= 4
    for example in examples:
        command, words = commands.words_of(example.command)
        try:
            commands.parse(command, words)
        except SystemExit:
            pytest.fail(f"{example.command}\n{capsys.readouterr().err}")
    own = [
        " ".join([command, *words])
        for command, words in map(commands.words_of, (e.command for e in examples))
    ]
    assert any(line.startswith(name) for line in own), "none is of this command"


def small() -> CommandParser:
    parser = CommandParser(
        "made",
        description="Makes 100 % of it.",
        examples=[Example("in half", "made --size 50 out --name 'a long name of it' --now")],
        details="what is written:\n  OUT  the thing",
    )
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--now", action="store_true", help="do not wait")
    parser.add_argument("--name", required=True, metavar="N", help="of it")
    group = parser.add_argument_group("looks (rarely of use)")
    group.add_argument("--size", type=int, default=100, help="%% of it (default: %(default)s)")
    group.add_argument("--hidden", help=argparse.SUPPRESS)
    parser.set_rare("--size")
    return parser


def test_the_two_helps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "45")
    short, full = small().format_help(), small().format_full_help()
    assert short.splitlines()[0] == "usage: made --name N [options] OUT"
    assert "more, explained by made --help-all:\n  looks  --size\n" in short
    assert "default: 100" not in short
    assert "what is written" not in short
    assert "% of it (default: 100)" in full
    assert "what is written:\n  OUT  the thing" in full
    assert "--hidden" not in short + full
    for text in (short, full):
        assert "Makes 100 % of it." in text
        assert "  in half:\n    made --size 50 out \\\n        --name 'a long name of it' --now\n" in text


def test_only_what_is_there_and_optional_can_be_rare():
    with pytest.raises(ValueError, match="--nmae: no option of made"):
        small().set_rare("--nmae")
    with pytest.raises(ValueError, match="--name: is required"):
        small().set_rare("--name")


def test_helps_on_the_command_line():
    command = [sys.executable, "-m", "shards.cli", "build"]
    for option, text in (("--help", "explained by pal-shard build --help-all"), ("--help-all", "--crf N")):
        done = subprocess.run(
            [*command, option], capture_output=True, text=True, check=False, cwd=commands.ROOT
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert text in done.stdout
    wrong = subprocess.run([*command, "--crf", "x", "a", "b"], capture_output=True, text=True, check=False,
                           cwd=commands.ROOT)  # fmt: skip
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("usage: pal-shard build [options] SOURCE… DEST\n")
