#!/usr/bin/env python
"""Run a launcher so that a signal or a spot notice ends the run well, and its exit status tells the truth.

    launch/cluster/supervise.py --run-dir s3://b/run --cloud aws -- deepspeed launch/pretrain.py --config … …

Launchers lose what ranks say: ``torchrun`` exits 1 where its ranks exit 75, and a signal to the ``deepspeed``
command ends the command alone. This starts the launcher in a process group of its own, hands SIGTERM and SIGINT on to
the whole group, waits until the last process is gone, orphans too, and exits 75 where ``STATUS.json`` says preempted.
Made to be process 1 of a container as well: it reaps what others leave.

Exit status: 75 (``--preempted-status``) preempted, run the same command again; otherwise the command's own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

# Not imported: this file runs where the package may not be installed.
EXIT_PREEMPTED = 75
_PR_SET_CHILD_SUBREAPER = 36
_AWS = "http://169.254.169.254/latest"
_GCP = "http://metadata.google.internal/computeMetadata/v1/instance/preempted"
_AZURE = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"

Notice = Callable[[], bool]


def main(words: list[str] | None = None) -> int:
    """Run the command; see the module's text."""
    args = _parser().parse_args(words)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        _parser().error("give the command to run after --")
    if args.run_dir and importlib.util.find_spec("pal_ds") is None:
        _parser().error("--run-dir is read by pal_ds: start this with the Python that pal_ds is installed in")
    supervisor = Supervisor(command, _notice(args), poll=args.poll, grace=args.grace)
    status = final_status(args.run_dir, supervisor.run(), asked=supervisor.asked)
    return args.preempted_status if status == EXIT_PREEMPTED else status


class Supervisor:
    """A command in its own process group, from its start until the group is empty.

    Args:
        command: what to run.
        notice: tells whether the machine is going to be taken away.
        poll: seconds between two looks at it.
        grace: seconds from the request to stop until what is left is killed.

    Attributes:
        asked: why the command was asked to stop; empty while it was not.
    """

    def __init__(self, command: Sequence[str], notice: Notice | None, *, poll: float, grace: float) -> None:
        self.command = list(command)
        self.asked = ""
        self._notice = notice
        self._poll = poll
        self._grace = grace
        self._signal = 0

    def run(self) -> int:
        """Run to the end; return the command's exit status, 128 + n where signal n ended it."""
        # Orphans of a killed launcher become children of this process, so that their end is seen.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        child = subprocess.Popen(self.command, start_new_session=True)
        status: int | None = None
        orphans_told = False
        next_look, deadline = time.monotonic(), math.inf
        while True:
            ended, others = _reap(child.pid)
            status = ended if ended is not None else status
            if status is not None and not others:
                return status if status >= 0 else 128 - status
            now = time.monotonic()
            if not self.asked and (self._signal or now >= next_look):
                next_look = now + self._poll
                self.asked = self._reason()
                if self.asked:
                    _say(f"{self.asked}: asking the job to stop")
                    _send(child.pid, signal.SIGTERM)
            if status is not None and not orphans_told:
                # What outlives its launcher must not live on: a rank saves, and the rest ends.
                orphans_told = True
                _send(child.pid, signal.SIGTERM)
            if deadline == math.inf and (self.asked or status is not None):
                deadline = now + self._grace
            if now > deadline:
                _say(f"still running after {self._grace:.0f} s: killing what is left")
                _send(child.pid, signal.SIGKILL)
                deadline = now + self._grace
            time.sleep(0.1)

    def _reason(self) -> str:
        if self._signal:
            return f"received {signal.Signals(self._signal).name}"
        return "notice: this machine is going to be taken away" if self._notice and self._notice() else ""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal = number


def final_status(run_dir: str | None, status: int, *, asked: str) -> int:
    """Return 75 where the run says that it was preempted, else ``status``.

    Args:
        run_dir: the run's folder; where None, being asked to stop and ending counts as preempted only with 75.
        status: of the command.
        asked: why it was asked to stop, for the message.
    """
    if status in {0, EXIT_PREEMPTED} or run_dir is None:
        return status
    from pal_ds import storage

    try:
        state = json.loads(storage.read_bytes(storage.join(run_dir, "STATUS.json"), retry=storage.AT_START))[
            "state"
        ]
    except (storage.StorageError, ValueError, KeyError, TypeError) as error:
        _say(
            f"the run's state can't be read ({type(error).__name__}); exit status {status} is the launcher's"
        )
        return status
    _say(f"the launcher's exit status is {status}, the run is {state}" + (f" ({asked})" if asked else ""))
    return EXIT_PREEMPTED if state == "preempted" else status


def file_notice(path: str) -> Notice:
    """Return a notice that is given by a file coming into being."""
    return lambda: Path(path).exists()


def url_notice(url: str, expect: str, headers: dict[str, str]) -> Notice:
    """Return a notice that is given by a URL answering 200 with a text that matches; all else is none."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"not an http address: {url}")

    def given() -> bool:
        text = _get(url, headers)
        return text is not None and re.search(expect, text) is not None

    return given


def aws_notice() -> Notice:
    """Return EC2's spot notice (two minutes ahead), asked with a session token as IMDSv2 wants it."""

    def given() -> bool:
        token = _get(f"{_AWS}/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
        headers = {"X-aws-ec2-metadata-token": token} if token else {}
        return _get(f"{_AWS}/meta-data/spot/instance-action", headers) is not None

    return given


def _notice(args: argparse.Namespace) -> Notice | None:
    if args.notice_file:
        return file_notice(args.notice_file)
    if args.notice_url:
        headers = dict(text.split(": ", 1) for text in args.header)
        return url_notice(args.notice_url, args.expect, headers)
    if args.cloud == "aws":
        return aws_notice()
    if args.cloud == "gcp":
        return url_notice(_GCP, "TRUE", {"Metadata-Flavor": "Google"})
    if args.cloud == "azure":
        return url_notice(_AZURE, '"Preempt"', {"Metadata": "true"})
    return None


def _get(url: str, headers: dict[str, str], *, method: str = "GET") -> str | None:
    """Return the text of a 200, None for everything else: a metadata service may be slow or missing."""
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 (checked or constant)
    # Metadata must never go through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=2) as answer:
            return str(answer.read(65536).decode(errors="replace")) if answer.status == 200 else None
    except (OSError, ValueError):
        return None


def _reap(child: int) -> tuple[int | None, bool]:
    """Collect what has ended; return the child's status if it was among it, and whether any child is left."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found, False
        if pid == 0:
            return found, True
        if pid == child:
            found = os.waitstatus_to_exitcode(status)


def _send(group: int, number: int) -> None:
    """Signal the command's process group, and orphans that have become children of this process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
    me = os.getpid()
    for pid in map(int, Path(f"/proc/{me}/task/{me}/children").read_text().split()):
        if pid != group:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _say(text: str) -> None:
    sys.stderr.write(f"supervise: {text}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch/cluster/supervise.py",
        description="Run a launcher; hand signals and spot notices on; exit 75 where the run was preempted.",
    )
    parser.add_argument("--run-dir", metavar="URL", help="run folder, whose STATUS.json is the truth")
    notice = parser.add_mutually_exclusive_group()
    notice.add_argument("--notice-file", metavar="PATH", help="stop when this file appears")
    notice.add_argument("--notice-url", metavar="URL", help="stop when this URL answers 200 with --expect")
    notice.add_argument("--cloud", choices=("aws", "gcp", "azure"), help="stop at this cloud's spot notice")
    parser.add_argument("--expect", default="", metavar="REGEX", help="text that makes --notice-url a notice")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="for --notice-url"
    )
    parser.add_argument(
        "--poll", type=float, default=5.0, metavar="S", help="seconds between looks (%(default)s)"
    )
    parser.add_argument(
        "--grace", type=float, default=45.0, metavar="S", help="seconds before SIGKILL (%(default)s)"
    )
    parser.add_argument(
        "--preempted-status",
        type=int,
        default=EXIT_PREEMPTED,
        metavar="N",
        help="exit with this instead of 75, for schedulers that try again after some statuses only (%(default)s)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
