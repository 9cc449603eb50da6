"""Runs one tool (ffmpeg, ffprobe) so that it can neither hang, flood nor outlive us."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

_PR_SET_PDEATHSIG = 1
# PyDLL keeps the interpreter lock during the call: between fork and exec no lock may be taken or released.
_LIBC = ctypes.PyDLL(None, use_errno=True)
_KEEP_BYTES = 64 << 10
_POLL_SECONDS = 0.5

_live: set[int] = set()
_live_lock = threading.Lock()
_stopping = threading.Event()


class ToolError(RuntimeError):
    """A tool can't be started, or has no room to write: no fault of the file it works on."""


class StoppedError(ToolError):
    """The tool was ended because all the work is being stopped."""


class CutShortError(ToolError):
    """A tool's output is not all it had to say: its time was up, or something killed it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """How a tool ended.

    Attributes:
        returncode: exit status; negative where a signal ended it.
        timed_out: it ran past its time and was killed.
        stdout: the first bytes it wrote there, up to the limit given.
        stderr: the beginning and the end of what it wrote there.
    """

    returncode: int
    timed_out: bool
    stdout: bytes
    stderr: str


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux).

    Called in a child before it becomes its tool. A parent that died before the call is noticed too, as then
    the child has been handed to another process.
    """
    parent = os.getppid()
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def run_tool(arguments: Sequence[str], *, timeout: float, stdout_limit: int = 1 << 20) -> Finished:
    """Run a tool to its end in a process group of its own.

    Args:
        arguments: the program and its arguments; no shell.
        timeout: seconds after which the whole group is killed.
        stdout_limit: bytes of standard output kept; the rest is read and thrown away.

    Raises:
        ToolError: the program can't be started at all.
        StoppedError: :func:`stop_all` was called.
    """
    process = _started(arguments, stderr=subprocess.PIPE)
    try:
        stdout, stderr, timed_out = _drain(process, time.monotonic() + timeout, stdout_limit)
        returncode = process.wait()
    finally:
        _ended(process)
    if _stopping.is_set():
        raise StoppedError("stopped")
    return Finished(
        returncode=returncode, timed_out=timed_out, stdout=stdout, stderr=stderr.decode("utf-8", "replace")
    )


def stream_tool(arguments: Sequence[str], *, timeout: float, piece_bytes: int) -> Iterator[bytes]:
    """Run a tool in a process group of its own and yield its standard output in pieces of one size.

    It ends early, without an error, where the tool fails by itself or its last piece is not whole: what it wrote up
    to there is what it had to say. Leaving the loop ends the tool.

    Args:
        arguments: the program and its arguments; no shell.
        timeout: seconds after which the whole group is killed.
        piece_bytes: size of a piece.

    Raises:
        ToolError: the program can't be started at all.
        CutShortError: its time was up, or it was killed.
        StoppedError: :func:`stop_all` was called.
    """
    process = _started(arguments, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + timeout
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            held = bytearray()
            while True:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise CutShortError(f"timed out ({timeout:g} s)")
                if not selector.select(min(remaining, _POLL_SECONDS)):
                    continue
                data = os.read(process.stdout.fileno(), 1 << 20)
                if not data:
                    break
                held += data
                whole = len(held) // piece_bytes * piece_bytes
                for start in range(0, whole, piece_bytes):
                    yield bytes(held[start : start + piece_bytes])
                del held[:whole]
        returncode = process.wait()
    finally:
        _ended(process)
    if _stopping.is_set():
        raise StoppedError("stopped")
    if returncode < 0:
        raise CutShortError(f"killed by signal {-returncode}")


def _started(arguments: Sequence[str], *, stderr: int) -> subprocess.Popen[bytes]:
    if _stopping.is_set():
        raise StoppedError("stopped")
    expected_parent = os.getpid()

    def prepare() -> None:
        die_with_parent()
        if os.getppid() != expected_parent:
            os._exit(1)

    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            process_group=0,
            preexec_fn=prepare,  # noqa: PLW1509  nothing in it takes a lock; see _LIBC
        )
    except OSError as error:
        raise ToolError(f"can't start {arguments[0]}: {error.strerror}") from error
    with _live_lock:
        _live.add(process.pid)
    return process


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Make sure that a tool is gone, and forget it."""
    if process.poll() is None:
        _kill_group(process.pid)
        process.wait()
    with _live_lock:
        _live.discard(process.pid)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def stop_all() -> None:
    """Kill every tool under way and let no further one start: the work is being left."""
    _stopping.set()
    with _live_lock:
        groups = list(_live)
    for group in groups:
        _kill_group(group)


def allow_again() -> None:
    """Undo :func:`stop_all` for the next work in the same process."""
    _stopping.clear()


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _drain(process: subprocess.Popen[bytes], deadline: float, stdout_limit: int) -> tuple[bytes, bytes, bool]:
    """Read both pipes until they close, the deadline passes or the work stops, holding bounded memory."""
    assert process.stdout is not None and process.stderr is not None
    out, head, tail = bytearray(), bytearray(), bytearray()
    timed_out = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0 and not timed_out:
                timed_out = True
                _kill_group(process.pid)
                deadline = time.monotonic() + 5.0
            elif remaining <= 0:
                break
            for key, _ in selector.select(max(0.0, min(remaining, _POLL_SECONDS))):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    out += data[: max(0, stdout_limit - len(out))]
                elif len(head) < _KEEP_BYTES:
                    head += data
                else:
                    tail = (tail + data)[-_KEEP_BYTES:]
    while process.poll() is None and not timed_out:
        try:
            process.wait(max(0.01, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
            _kill_group(process.pid)
    return bytes(out), bytes(head + tail), timed_out
