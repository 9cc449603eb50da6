"""A URL that is called when the state of a run changes: running, preempted, failed, done.

A call has little time and never stops a run. What is secret in such a URL often lies in its path, so messages name
its host alone, and ``env:NAME`` keeps it out of every file: then ``config.yaml`` and checkpoints hold the name.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from pal_ds import storage
from pal_ds.config import ConfigError

log = logging.getLogger(__name__)

#: A call may take so long, and the end of a run waits so long for the last one.
LIMIT_SECONDS = 5.0
_FIELD = "log.webhook"


def webhook_url(value: str) -> str:
    """Return the URL that ``log.webhook`` means.

    Raises:
        ConfigError: the variable that it names is not set, or holds no http:// or https:// URL.
    """
    if not value.startswith("env:"):
        return value
    name = value.removeprefix("env:")
    url = os.environ.get(name, "")
    if not url:
        raise ConfigError(_FIELD, value, f"the variable {name} is not set where rank 0 runs")
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise ConfigError(_FIELD, value, f"the variable {name} holds no http:// or https:// URL")
    return url


class Webhook:
    """Calls a URL with ``POST`` and a JSON object: ``run``, ``state``, ``previous``, ``step``, ``time``, ``error``.

    Args:
        value: of ``log.webhook``.
        run_url: the run folder, which the object names without credentials.

    Raises:
        ConfigError: see :func:`webhook_url`.
    """

    def __init__(self, value: str, run_url: str) -> None:
        self._url = webhook_url(value)
        self._host = urlsplit(self._url).hostname
        self._run = storage.redact(run_url)
        self._state: str | None = None
        self._calls: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def state(self, state: str, step: int, *, error: str = "") -> None:
        """Tell of a state if it is another than before; of all but ``running`` waits for the call, a little."""
        if state == self._state:
            return
        body: dict[str, Any] = {"run": self._run, "state": state, "previous": self._state, "step": step}
        body["time"] = round(time.time(), 3)
        if error:
            body["error"] = error
        self._state = state
        self._calls.put(body)
        if state != "running":
            end = time.monotonic() + LIMIT_SECONDS
            while self._calls.unfinished_tasks and time.monotonic() < end:
                time.sleep(0.02)
            if self._calls.unfinished_tasks:
                log.warning("the webhook at %s did not answer within %.0f s", self._host, LIMIT_SECONDS)

    def _work(self) -> None:
        while True:
            body = self._calls.get()
            try:
                self._call(body)
            except Exception as error:  # whatever a server can do wrong, the run goes on
                log.warning("the webhook at %s was not told %s: %s", self._host, body["state"], _kind(error))
            finally:
                self._calls.task_done()

    def _call(self, body: dict[str, Any]) -> None:
        request = urllib.request.Request(  # noqa: S310 (http and https are checked where the option is read)
            self._url,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "pal-ds"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310 (the same)
            answer.read(1)


def _kind(error: Exception) -> str:
    """Say what went wrong without the URL, which some errors quote."""
    code = getattr(error, "code", None)
    reason = getattr(error, "reason", None)
    if isinstance(code, int):
        return f"status {code}"
    return type(reason).__name__ if isinstance(reason, Exception) else type(error).__name__
