"""Processes that begin with torch and DeepSpeed imported: forks of one that has done nothing else.

Most of the time of a short run in a process of its own goes into imports. What :class:`ForkServer` starts is such a
process all the same, with its own id, environment, folder, signals and exit. Loader workers of ``forkserver`` start
as ever too: that server alone is a fork of its rank instead of a new interpreter. Commands and launchers as users
start them are what `subprocess` starts; tests about starting use that.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import gc
import importlib
import json
import math
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What ranks and the other commands import while they run.
_MODULES = (
    "pal_ds.training.pretrain",
    "pal_ds.data.workers.worker_process",
    "pal_ds.cli.extract",
    "pal_ds.cli.localize",
    "pal_ds.cli.transfer",
    "deepspeed",
    "s3fs",
)
_START_SECONDS = 300.0
_POLL_SECONDS = 0.02


@dataclasses.dataclass
class Forked:
    """A process of the server, with the methods of `subprocess.Popen` that tests use; its output is text."""

    pid: int
    server: ForkServer
    files: tuple[Path, Path]
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self.server.status_of(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = 300.0) -> int:
        """Wait for its end; one that takes too long is killed."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return status

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """Wait for its end and return what it printed."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self.files)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts processes by forking one that has imported what they need; a test process needs one server."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pal-fork-server-")
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_START_SECONDS)
        command = [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL
        )
        theirs.close()
        self._replies = self._socket.makefile()
        self._started = 0
        self._asking = threading.Lock()

    def start(
        self, words: list[str], *, env: Mapping[str, str], cwd: Path = ROOT, output: Path | None = None
    ) -> Forked:
        """Start ``python WORDS``: a script or ``-m module`` with its arguments; ``output`` takes all it prints."""
        with self._asking:
            self._started += 1
            number = self._started
        out, err = (output or Path(self._folder.name) / f"{number}.{name}" for name in ("out", "err"))
        job = {"words": words, "env": dict(env), "cwd": str(cwd), "out": str(out), "err": str(err)}
        return Forked(self._ask(job), self, (out, err))

    def status_of(self, pid: int) -> int | None:
        """Return the exit status of one of its processes, or None while it runs."""
        return self._ask({"pid": pid})

    def close(self) -> None:
        """End the server; what it started goes on."""
        # Forks of this process may hold the socket too.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._replies.close()
        self._socket.close()
        self._process.wait(timeout=60)
        self._folder.cleanup()

    def _ask(self, question: dict[str, Any]) -> Any:
        with self._asking:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            reply = self._replies.readline()
        if not reply:
            raise RuntimeError(f"the fork server ended with status {self._process.wait(timeout=60)}")
        return json.loads(reply)


def run_python(
    words: Sequence[object], *, cwd: Path = ROOT, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS`` to its end; more environment variables may be given."""
    command = [str(word) for word in words]
    process = fork_server().start(command, env={**os.environ, **extra}, cwd=cwd)
    out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.wait(), out, err)


@functools.cache
def fork_server() -> ForkServer:
    """Return this process's server; it starts with the first call and ends with the process."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer until the tests end, then return None; return in each fork what it is to run."""
    ended: dict[int, int] = {}
    for line in connection.makefile():
        question = json.loads(line)
        if "words" in question:
            answer = os.fork()
            if answer == 0:
                return question
            ended.pop(answer, None)  # of an older process with this number
        else:
            while (found := _ended_child()) is not None:
                ended[found[0]] = found[1]
            answer = ended.get(question["pid"])
        connection.sendall(json.dumps(answer).encode() + b"\n")
    return None


def _ended_child() -> tuple[int, int] | None:
    """Return id and status of a child that has ended."""
    with contextlib.suppress(ChildProcessError):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            return pid, os.waitstatus_to_exitcode(status)
    return None


def _become(job: Mapping[str, Any]) -> None:
    """Make this fork the process that was asked for."""
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    for target, path in ((1, job["out"]), (2, job["err"])):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, target)
        os.close(descriptor)


def _fork_helpers() -> None:
    """Have multiprocessing's helpers (fork server, resource tracker) forked too, and start them before any thread."""
    from multiprocessing import forkserver, resource_tracker, util

    started = util.spawnv_passfds

    def forked(executable: bytes, arguments: list[Any], descriptors: list[int]) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
                if number > 2 and number not in descriptors:
                    with contextlib.suppress(OSError):
                        os.close(number)
            exec(arguments[arguments.index("-c") + 1], {})
            status = 0
        finally:
            os._exit(status)

    util.spawnv_passfds = forked
    try:
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = started


def _run(words: list[str]) -> None:
    """Do what ``python WORDS`` does."""
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


def main() -> None:
    """Import, then serve; where there is CUDA, which survives no fork, every process imports for itself."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    import torch

    has_cuda = torch.cuda.is_available()
    if not has_cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
        for name in _MODULES:
            importlib.import_module(name)
        gc.freeze()
    job = _serve(connection)
    connection.close()
    if job is None:
        return
    _become(job)
    if has_cuda:
        os.execv(sys.executable, [sys.executable, *job["words"]])
    _fork_helpers()
    _run(job["words"])


if __name__ == "__main__":
    main()
