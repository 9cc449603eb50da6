"""The supervisor of launchers: signals and notices reach everyone, nothing is left, the exit status is the run's."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launch.cluster.supervise import aws_notice, file_notice, final_status, url_notice

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "cluster" / "supervise.py"

#: A launcher as bad as they come: it dies of SIGTERM at once, while its rank takes a second to save.
LAUNCHER = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
rank = '''
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(*_):
    time.sleep(1)
    (folder / "STATUS.json").write_text('{"state": "preempted", "step": 3}')
    sys.exit(75)
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == "deaf" else stop)
(folder / "rank").write_text("up")
while True:
    time.sleep(0.05)
'''
subprocess.Popen([sys.executable, "-c", rank, *sys.argv[1:]], start_new_session=sys.argv[2] != "together")
(folder / "launcher").write_text(str(os.getpid()))
time.sleep(60)
"""


def start(folder: Path, *words: str, command: list[str]) -> subprocess.Popen[str]:
    line = [sys.executable, str(SCRIPT), "--run-dir", str(folder), "--poll", "0.1", *words, "--", *command]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize("where", ["together", "apart"])
@pytest.mark.parametrize("how", ["signal", "notice"])
def test_a_request_to_stop_is_waited_for_to_the_end_and_is_75(tmp_path: Path, how: str, where: str) -> None:
    notice = tmp_path / "notice"
    launcher = [sys.executable, "-c", LAUNCHER, str(tmp_path), where]
    process = start(tmp_path, "--notice-file", str(notice), command=launcher)
    wait_for(tmp_path / "rank")
    wait_for(tmp_path / "launcher")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 2
    if how == "signal":
        process.send_signal(signal.SIGTERM)
    else:
        notice.touch()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert json.loads((tmp_path / "STATUS.json").read_text())["step"] == 3
    assert "asking the job to stop" in said
    assert not any(member.is_running() for member in family)


@pytest.mark.parametrize(("rank", "expected"), [("apart", 75), ("deaf", 128 + signal.SIGKILL)])
def test_a_killed_launcher_leaves_nothing_behind(tmp_path: Path, rank: str, expected: int) -> None:
    process = start(tmp_path, "--grace", "3", command=[sys.executable, "-c", LAUNCHER, str(tmp_path), rank])
    wait_for(tmp_path / "rank")
    wait_for(tmp_path / "launcher")
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(int((tmp_path / "launcher").read_text()), signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == expected, said
    assert ("killing what is left" in said) == (rank == "deaf")
    assert not any(member.is_running() for member in family)


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("preempted", 1, 75),
        ("preempted", 143, 75),
        ("preempted", 0, 0),
        ("failed", 1, 1),
        ("running", 1, 1),
        ("done", 0, 0),
        ("failed", 75, 75),
    ],
)
def test_the_status_file_decides_between_preempted_and_failed(
    tmp_path: Path, state: str, status: int, expected: int
) -> None:
    (tmp_path / "STATUS.json").write_text(json.dumps({"state": state, "step": 1}))
    assert final_status(str(tmp_path), status, asked="") == expected


def test_a_status_that_is_missing_or_broken_leaves_the_launchers(tmp_path: Path) -> None:
    assert final_status(None, 1, asked="") == 1
    assert final_status(str(tmp_path), 3, asked="") == 3
    (tmp_path / "STATUS.json").write_text("[1, 2")
    assert final_status(str(tmp_path), 4, asked="") == 4


@pytest.mark.parametrize("status", [0, 2, 75])
def test_a_command_that_ends_by_itself_gives_its_status(tmp_path: Path, status: int) -> None:
    process = start(tmp_path, command=[sys.executable, "-c", f"raise SystemExit({status})"])
    process.communicate(timeout=30)
    assert process.returncode == status


@pytest.fixture
def metadata() -> Iterator[tuple[str, dict[str, tuple[int, str]], list[dict[str, str]]]]:
    """A metadata service: its address, what it answers by path, and the headers it was asked with."""
    answers: dict[str, tuple[int, str]] = {}
    asked: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(
                {"method": self.command, **{name.lower(): value for name, value in self.headers.items()}}
            )
            status, text = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_is_a_notice_only_with_the_text_expected(metadata) -> None:
    url, answers, asked = metadata
    notice = url_notice(f"{url}/preempted", "TRUE", {"Metadata-Flavor": "Google"})
    assert not notice()
    answers["/preempted"] = (200, "FALSE")
    assert not notice()
    answers["/preempted"] = (200, "TRUE")
    assert notice()
    assert asked[0]["metadata-flavor"] == "Google"
    assert not url_notice("http://127.0.0.1:9/", "", {})()
    with pytest.raises(ValueError, match="not an http address"):
        url_notice("file:///etc/passwd", "", {})


def test_the_ec2_notice_is_asked_with_a_token(metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    url, answers, asked = metadata
    monkeypatch.setattr("launch.cluster.supervise._AWS", url)
    answers["/api/token"] = (200, "a-token")
    notice = aws_notice()
    assert not notice()
    assert (asked[0]["method"], asked[1]["x-aws-ec2-metadata-token"]) == ("PUT", "a-token")
    answers["/meta-data/spot/instance-action"] = (200, '{"action": "terminate"}')
    assert notice()


def test_a_file_is_a_notice_once_it_is_there(tmp_path: Path) -> None:
    notice = file_notice(str(tmp_path / "stop"))
    assert not notice()
    (tmp_path / "stop").touch()
    assert notice()
