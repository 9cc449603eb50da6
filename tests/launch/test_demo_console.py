"""What the demonstration shows of its commands: a line a stage, all they said in a file, the end of it on failure."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from launch.demo.console import Console, StageError

CHATTY = "import sys; sys.stderr.write('noise\\n1/4 clips\\n2/4 clips\\n'); print('result')"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(folder: Path, code: str, stream: io.StringIO, **options: bool) -> str:
    console = Console(folder, 2, stream=stream, **options)
    with console.stage("pack shards") as stage:
        printed = console.run([sys.executable, "-c", code])
        stage.detail = "4 clips"
    return printed


def test_a_stage_is_a_line_and_its_commands_chatter_a_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    assert run(tmp_path, CHATTY, stream) == "result\n"
    assert "noise" not in stream.getvalue()
    assert stream.getvalue().splitlines()[-1] == "[1/2] pack shards: 0 s  4 clips"
    assert (tmp_path / "1-pack-shards.log").read_text() == "noise\n1/4 clips\n2/4 clips\n"


def test_verbose_shows_all(tmp_path: Path) -> None:
    stream = io.StringIO()
    run(tmp_path, CHATTY, stream, verbose=True)
    assert "noise" in stream.getvalue().splitlines()


def test_a_terminal_sees_counts_move_with_the_time_that_is_left(tmp_path: Path) -> None:
    stream = Terminal()
    run(tmp_path, CHATTY, stream)
    assert "\r\x1b[K[1/2] pack shards: 1/4" in stream.getvalue()
    assert "pack shards: 2/4  about 0 s left" in stream.getvalue()


def test_a_failure_shows_the_last_lines_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"ended with status 3; .*1-pack-shards.log(.|\n)*out of luck"):
        run(tmp_path, "import sys; sys.stderr.write('out of luck\\n'); sys.exit(3)", io.StringIO())
