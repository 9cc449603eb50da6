"""A listing whose reader leaves early."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pal_ds.formats.closed_pipe import STATUS


@pytest.mark.parametrize(
    "words", [["pretrain", "options"], ["pretrain", "configs"], ["transfer", "--options"]], ids=" ".join
)
def test_head_ends_a_listing_without_a_traceback(words: list[str]) -> None:
    command = [sys.executable, "-m", f"pal_ds.cli.{words[0]}", *words[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == STATUS
    assert said == b""
