"""A server of one folder that is shaped like S3: a wait before the first byte, and a limit on every connection.

It answers HEAD, and GET with or without a range, and checks no signature, so that it costs little itself.
"""

from __future__ import annotations

import email.utils
import http.server
import multiprocessing
import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_CHUNK = 1 << 19


class ShapedServer:
    """A process that serves ``folder`` as bucket ``bench``.

    Args:
        folder: what is served.
        first_byte_seconds: wait before every answer.
        bytes_per_second: limit of every connection.
    """

    def __init__(
        self, folder: Path, *, first_byte_seconds: float = 0.03, bytes_per_second: float = 90e6
    ) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(str(folder), first_byte_seconds, bytes_per_second, theirs), daemon=True
        )
        self._process.start()
        self.port: int = ours.recv()

    @property
    def env(self) -> dict[str, str]:
        """Environment variables of a client."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> ShapedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


def _serve(folder: str, first_byte_seconds: float, bytes_per_second: float, report: Any) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = Path(folder) / Path(self.path.split("?")[0]).name
            time.sleep(first_byte_seconds)
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            size = path.stat().st_size
            found = _RANGE.fullmatch(self.headers.get("Range", ""))
            first, last = (int(found[1]), min(int(found[2]), size - 1)) if found else (0, size - 1)
            self.send_response(206 if found else 200)
            if found:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("ETag", '"bench"')
            self.send_header("Last-Modified", email.utils.formatdate(0, usegmt=True))
            self.end_headers()
            self.wfile.flush()
            if with_body:
                self._send(path, first, last + 1)

        def _send(self, path: Path, at: int, end: int) -> None:
            begun, start = time.monotonic(), at
            with path.open("rb") as file:
                while at < end:
                    at += os.sendfile(self.connection.fileno(), file.fileno(), at, min(_CHUNK, end - at))
                    time.sleep(max(0.0, begun + (at - start) / bytes_per_second - time.monotonic()))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: clients leave in the middle when their time is up."""

    server = Server(("127.0.0.1", 0), Handler)
    report.send(server.server_address[1])
    server.serve_forever()
