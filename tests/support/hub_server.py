"""A server of ours that answers reads as the Hugging Face Hub's API documents them: one data set, from a folder."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_SHA = "0" * 40


class HubServer(ThreadingHTTPServer):
    """Serves ``datasets/<name>`` at revision ``main``; requests are kept in ``asked`` as (method, path, range).

    Args:
        folder: the data set's files.
        name: ``owner/name``.
        token: what a client must send; None for a public set.
    """

    daemon_threads = True

    def __init__(self, folder: Path, name: str, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.name, self.token = folder, name, token
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def entry(self, path: str) -> dict[str, object] | None:
        place = self.folder / path
        if place.is_dir():
            return {"type": "directory", "path": path, "oid": _SHA, "size": 0}
        if place.is_file():
            return {"type": "file", "path": path, "oid": _SHA, "size": place.stat().st_size}
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path, self.headers.get("Range")))
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._send(
                401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            )
            return
        name = re.escape(self.server.name)
        if found := re.fullmatch(rf"/datasets/{name}/resolve/[^/]+/(.+)", path):
            self._file(found[1])
        elif found := re.fullmatch(rf"/api/datasets/{name}/tree/[^/]+(?:/(.*))?", path):
            self._tree(found[1] or "")
        elif re.fullmatch(rf"/api/datasets/{name}/paths-info/[^/]+", path):
            text = body.decode()
            paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
            self._json([entry for entry in map(self.server.entry, paths) if entry])
        elif re.fullmatch(rf"/api/datasets/{name}(/revision/[^/]+)?", path):
            self._json({"id": self.server.name, "sha": _SHA, "private": False, "siblings": [], "tags": []})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _tree(self, folder: str) -> None:
        place = self.server.folder / folder
        if not place.is_dir():
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        names = [f"{folder}/{child.name}".lstrip("/") for child in sorted(place.iterdir())]
        self._json([self.server.entry(name) for name in names])

    def _file(self, path: str) -> None:
        place = self.server.folder / path
        if not place.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = place.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            self._send(200, data, {"ETag": f'"{_SHA}"', "X-Repo-Commit": _SHA})
            return
        start, end = int(wanted[1]), int(wanted[2] or len(data) - 1) + 1
        self._send(206, data[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
