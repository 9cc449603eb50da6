"""The webhook against a real HTTP server: one call a state, in order, in bounded time, no secret in any message."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pal_ds.config import ConfigError, LogConfig
from pal_ds.training.logging import webhook as module
from pal_ds.training.logging.run_log import RunLog
from pal_ds.training.logging.webhook import Webhook, webhook_url


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent; ``status`` is its answer, and it answers only when ``released``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.released = threading.Event()
        self.released.set()
        self.url = f"http://127.0.0.1:{self.server_port}/hook/s3cret"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.released.wait(30)
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_state_is_told_once_and_in_order(receiver: Receiver, tmp_path: Path) -> None:
    log = RunLog(str(tmp_path), LogConfig(tensorboard=False, webhook=receiver.url), step=3)
    log.status("running", 3)
    log.progress(4)
    log.status("running", 5)
    log.close()
    log.status("failed", 6, error="why")
    assert [path for path, _ in receiver.got] == ["/hook/s3cret"] * 2
    first, second = (body for _, body in receiver.got)
    assert first.pop("time") > 1.7e9
    assert first == {"run": str(tmp_path), "state": "running", "previous": None, "step": 3}
    assert {"state": "failed", "previous": "running", "step": 6, "error": "why"}.items() <= second.items()


def test_the_run_is_named_without_credentials(receiver: Receiver) -> None:
    Webhook(receiver.url, "s3://key:secret@bucket/runs/pal?token=1").state("done", 1)
    assert receiver.got[0][1]["run"] == "s3://bucket/runs/pal"


@pytest.mark.parametrize("what", ["status", "nobody"])
def test_a_call_that_fails_is_a_warning_that_names_the_host_alone(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    receiver.status = 500
    url = receiver.url if what == "status" else "http://127.0.0.1:9/hook/s3cret"
    with caplog.at_level(logging.WARNING):
        Webhook(url, "/run").state("done", 1)
    assert "the webhook at 127.0.0.1 was not told done" in caplog.text
    assert "s3cret" not in caplog.text
    assert ("status 500" in caplog.text) == (what == "status")


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.3)
    receiver.released.clear()
    with caplog.at_level(logging.WARNING):
        Webhook(receiver.url, "/run").state("preempted", 1)  # would hang for 30 s
    assert receiver.got == []
    assert "127.0.0.1" in caplog.text


def test_a_url_may_come_from_a_variable(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAL_TEST_HOOK", f"{receiver.url}?token=1")
    Webhook("env:PAL_TEST_HOOK", "/run").state("done", 1)
    assert receiver.got[0][0] == "/hook/s3cret?token=1"
    monkeypatch.setenv("PAL_TEST_HOOK", "ftp://host/s3cret")
    with pytest.raises(ConfigError, match="PAL_TEST_HOOK holds no http") as error:
        webhook_url("env:PAL_TEST_HOOK")
    assert "s3cret" not in str(error.value)
    monkeypatch.delenv("PAL_TEST_HOOK")
    with pytest.raises(ConfigError, match="PAL_TEST_HOOK is not set"):
        webhook_url("env:PAL_TEST_HOOK")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("https://user:s3cret@host/x", "put it into a variable"),
        ("https://host/x?token=s3cret", "put it into a variable"),
        ("ftp://host/s3cret", "give an http:// or https:// URL"),
        ("https://", "give an http:// or https:// URL"),
        ("http://[s3cret", "give an http:// or https:// URL"),
        ("s3cret", "give an http:// or https:// URL"),
        ("env:s3cret one", "give an http:// or https:// URL"),
    ],
)
def test_what_is_no_url_or_holds_a_secret_is_refused_without_showing_it(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"log\.webhook") as error:
        LogConfig(webhook=value)
    assert message in str(error.value)
    assert "s3cret" not in str(error.value)
