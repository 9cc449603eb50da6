"""Completion scripts in real shells."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pal_ds.command_line.completion import SHELLS
from tests.support import commands

#: What a shell does on TAB: calls the function that `complete` names, with the words so far.
PRESS_TAB = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
function=$(complete -p {name} | sed -E 's/.*-F ([^ ]+).*/\\1/')
$function {name} "${{COMP_WORDS[$COMP_CWORD]}}" "${{COMP_WORDS[$COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(name: str, shell: str) -> str:
    command = [sys.executable, "-m", commands.scripts()[name], "--print-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=commands.ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def bash_scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for name in ("pal-shard", "pal-extract", "pal-pretrain"):
        (folder / name).write_text(script(name, "bash"))
    return folder


def tab(scripts: Path, words: list[str], folder: Path) -> list[str]:
    """What bash offers for the last word, in a folder."""
    code = PRESS_TAB.format(script=scripts / words[0], name=words[0], words=shlex.join(words))
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def options_of(parser: argparse.ArgumentParser, start: str) -> list[str]:
    found = (
        name
        for action in parser._actions
        if action.help is not argparse.SUPPRESS
        for name in action.option_strings
    )
    return sorted(name for name in found if name.startswith(start))


def test_bash_completes_commands_options_choices_and_paths(bash_scripts: Path, tmp_path: Path):
    (tmp_path / "clips.csv").touch()
    (tmp_path / "clipped").mkdir()
    parsers = commands.parsers()
    assert tab(bash_scripts, ["pal-shard", "re"], tmp_path) == ["remove", "reshard", "retry"]
    assert tab(bash_scripts, ["pal-shard", "build", "--m"], tmp_path) == options_of(
        parsers["pal-shard build"], "--m"
    )
    assert tab(bash_scripts, ["pal-shard", "build", "--dedupe", ""], tmp_path) == [
        "content",
        "identity",
        "near",
    ]
    assert tab(bash_scripts, ["pal-shard", "build", "cli"], tmp_path) == ["clipped", "clips.csv"]
    assert tab(bash_scripts, ["pal-extract", "--checkpoint", "cli"], tmp_path) == ["clipped", "clips.csv"]
    assert tab(bash_scripts, ["pal-extract", "--precision", "b"], tmp_path) == ["bf16"]


def test_bash_completes_words_that_make_another_command(bash_scripts: Path, tmp_path: Path):
    parsers = commands.parsers()
    assert tab(bash_scripts, ["pal-pretrain", "ex"], tmp_path) == ["export"]
    assert tab(bash_scripts, ["pal-pretrain", "export", "--o"], tmp_path) == ["--opentad", "--out"]
    assert tab(bash_scripts, ["pal-pretrain", "--re"], tmp_path) == options_of(
        parsers["pal-pretrain"], "--re"
    )
    assert tab(bash_scripts, ["pal-extract", "import", "--kind", ""], tmp_path) == ["csv", "hdf5", "npy"]


@pytest.mark.parametrize("name", sorted(commands.scripts()))
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shutil.which(shell) and shell != "tcsh"])
def test_scripts_are_read_without_complaint(name: str, shell: str, tmp_path: Path):
    file = tmp_path / name
    file.write_text(script(name, shell))
    done = subprocess.run([shell, "-n", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_zsh_loads_its_script(tmp_path: Path):
    if shutil.which("zsh") is None:
        pytest.skip("no zsh on this machine (Debian: apt-get install zsh)")
    (tmp_path / "_pal-shard").write_text(script("pal-shard", "zsh"))
    code = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[pal-shard]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("_pal-shard", "")


def test_fish_completes(tmp_path: Path):
    if shutil.which("fish") is None:
        pytest.skip("no fish on this machine (Debian: apt-get install fish)")
    (tmp_path / "pal-shard.fish").write_text(script("pal-shard", "fish"))
    code = f"source {tmp_path}/pal-shard.fish; complete -C 'pal-shard re'"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(["fish", "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["remove", "reshard", "retry"], (
        done.stderr
    )
