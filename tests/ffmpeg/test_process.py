"""A tool can neither hang, flood nor outlive the process that started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pal_ds.ffmpeg import process
from pal_ds.ffmpeg.process import ToolError, run_tool


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone_within(pid: int, *, seconds: float) -> bool:
    # A signal is delivered when the process next runs, not when kill returns.
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_output_and_status_come_back() -> None:
    done = run_tool(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=20)
    assert (done.returncode, done.stdout, done.stderr, done.timed_out) == (3, b"out\n", "err\n", False)


def test_a_hanging_tool_is_killed_with_its_group() -> None:
    done = run_tool(["sh", "-c", "sleep 300 & echo $!; wait"], timeout=0.5)
    assert done.timed_out
    assert gone_within(int(done.stdout), seconds=5)


def test_a_tool_that_closes_its_pipes_and_hangs_is_killed_too() -> None:
    assert run_tool(["sh", "-c", "exec sleep 300 >&- 2>&-"], timeout=0.5).timed_out


def test_a_flood_is_read_and_not_kept() -> None:
    done = run_tool(
        ["sh", "-c", "yes | head -c 5000000; yes e | head -c 5000000 >&2"], timeout=60, stdout_limit=1000
    )
    assert len(done.stdout) == 1000
    assert len(done.stderr) < 300_000


def test_a_missing_program_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="no-such-program"):
        run_tool(["no-such-program"], timeout=1)


def test_a_tool_dies_when_its_parent_is_killed(tmp_path) -> None:
    note = tmp_path / "pid"
    script = f"echo $$ > {note}; exec sleep 300"
    code = f"from pal_ds.ffmpeg.process import run_tool; run_tool(['sh', '-c', {script!r}], timeout=300)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    child = int(note.read_text())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone_within(child, seconds=2)


def test_a_tool_is_streamed_in_whole_pieces_and_ends_when_it_is_left() -> None:
    program = "import sys; [sys.stdout.write('x' * 1000) for _ in range(95)]"
    pieces = list(process.stream_tool([sys.executable, "-c", program], timeout=30, piece_bytes=2000))
    assert [len(piece) for piece in pieces] == [2000] * 47
    endless = "import sys\nwhile True: sys.stdout.write('x' * 1000)"
    stream = process.stream_tool([sys.executable, "-c", endless], timeout=30, piece_bytes=10)
    assert next(stream) == b"x" * 10
    stream.close()
    assert not process._live


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; print('x' * 99, flush=True); time.sleep(60)", "timed out"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
    ],
)
def test_a_stream_that_was_cut_short_says_so(program: str, said: str) -> None:
    with pytest.raises(process.CutShortError, match=said):
        list(process.stream_tool([sys.executable, "-c", program], timeout=1, piece_bytes=10))
