"""An HTTP proxy in front of a real S3 server that makes it behave badly, by a seeded plan."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable

#: In a signed header it ends in a slash, in a signed URL in a quoted one.
_ACCESS_KEY = re.compile(rb"Credential=([^/%]+)[/%]")
_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)\r$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong; requests are counted from 0 as they arrive.

    Attributes:
        cut_share: answers whose body ends in a reset, at any byte.
        cut_after: every body ends in a reset after so many bytes; 0 never.
        length_share: answers whose Content-Length is wrong: half of them too small, half too large.
        burst_every: a burst of 503 begins after so many requests; 0 never.
        burst: answers of a burst.
        outage_at: the request at which the server goes away; -1 never.
        outage_seconds: for how long.
        expire_at: sound answers after which the access key seen first is expired; -1 never.
        refused_heads_have_bodies: answer refused HEAD requests against the protocol, so that clients see garbage.
        bytes_per_second: of all answers together; 0 for no limit.
        first_byte_seconds: wait before every answer.
        connection_bytes_per_second: of every connection; 0 for no limit.
    """

    cut_share: float = 0.0
    cut_after: int = 0
    length_share: float = 0.0
    burst_every: int = 0
    burst: int = 5
    outage_at: int = -1
    outage_seconds: float = 0.0
    expire_at: int = -1
    refused_heads_have_bodies: bool = False
    bytes_per_second: float = 0.0
    first_byte_seconds: float = 0.0
    connection_bytes_per_second: float = 0.0


class FaultyS3:
    """Listens on loopback and passes GET and HEAD requests on; what it did is counted in ``counts``.

    The Host header that a client signed stays as it is; the server behind does not compare it with its own.

    Args:
        port: of the server behind.
        faults: the plan.
        seed: of the dice.
        on_expiry: called once, when the first access key expires.
    """

    def __init__(
        self, port: int, faults: Faults, *, seed: int = 0, on_expiry: Callable[[], None] = lambda: None
    ) -> None:
        self.faults = faults
        self.counts: collections.Counter[str] = collections.Counter()
        self._server_port = port
        self._dice = random.Random(seed)
        self._on_expiry = on_expiry
        self._first_key: bytes | None = None
        self._expired = False
        self._lock = threading.Lock()
        self._back_at = 0.0
        self._link_free_at = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def __enter__(self) -> FaultyS3:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Answer the requests of one connection until a fault or the client ends it."""
        server: socket.socket | None = None
        try:
            while head := _read_head(client):
                fate, bodiless = self._fate(head), head.startswith(b"HEAD ")
                if fate == "outage":
                    return
                if fate in ("503", "expired"):
                    client.sendall(
                        _refusal(fate, bodiless=bodiless and not self.faults.refused_heads_have_bodies)
                    )
                    continue
                if server is None:
                    server = socket.create_connection(("127.0.0.1", self._server_port), timeout=60)
                server.sendall(head)
                if not self._answer(server, client, fate, bodiless):
                    return
        except OSError:
            pass
        finally:
            for end in (client, server):
                if end is not None:
                    _reset(end)

    def _fate(self, head: bytes) -> str:
        """Decide what happens to a request."""
        faults, expired_now = self.faults, False
        with self._lock:
            number = self.counts["requests"]
            self.counts["requests"] += 1
            found = _ACCESS_KEY.search(head)
            key = found[1] if found else b""
            self._first_key = self._first_key or key
            if number == faults.outage_at:
                self._back_at = time.monotonic() + faults.outage_seconds
            if 0 <= faults.expire_at <= self.counts["good"] and not self._expired:
                self._expired = expired_now = True
            if time.monotonic() < self._back_at:
                fate = "outage"
            elif self._expired and key == self._first_key:
                fate = "expired"
            elif faults.burst_every and number % (faults.burst_every + faults.burst) >= faults.burst_every:
                fate = "503"
            else:
                dice = self._dice.random()
                fate = "cut" if dice < faults.cut_share else "good"
                if faults.cut_share <= dice < faults.cut_share + faults.length_share:
                    fate = self._dice.choice(["short", "long"])
            self.counts[fate] += 1
        if expired_now:
            self._on_expiry()
        return fate

    def _answer(self, server: socket.socket, client: socket.socket, fate: str, bodiless: bool) -> bool:
        """Pass one answer on; tell whether the connection can go on."""
        time.sleep(self.faults.first_byte_seconds)
        head, body = _read_answer_head(server)
        found = _LENGTH.search(head)
        length = int(found[1]) if found and not bodiless else 0
        told, passed = length, length
        if 0 < self.faults.cut_after < length:
            fate, passed = "cut", self.faults.cut_after
        with self._lock:
            if fate in ("cut", "short") and passed == length > 0:
                passed = self._dice.randrange(length)
            if fate == "short":
                told = passed
            elif fate == "long":
                told = length + self._dice.randrange(1, 10_000)
        if told != length:
            head = _LENGTH.sub(b"Content-Length: %d\r" % told, head)
        client.sendall(head)
        self._pass_on(server, client, body[:passed], passed)
        if fate == "long":
            client.shutdown(
                socket.SHUT_WR
            )  # all that was there, then a polite end before the length is reached
            time.sleep(0.05)
        return fate == "good"

    def _pass_on(self, server: socket.socket, client: socket.socket, first: bytes, count: int) -> None:
        data, begun, sent = first, time.monotonic(), 0
        buffer = memoryview(bytearray(1 << 18))
        while True:
            if data:
                self._wait_for_link(len(data))
                client.sendall(data)
                sent += len(data)
                if limit := self.faults.connection_bytes_per_second:
                    time.sleep(max(0.0, begun + sent / limit - time.monotonic()))
            if sent == count:
                return
            got = server.recv_into(buffer[: min(len(buffer), count - sent)])
            if not got:
                raise ConnectionError("the server ended early")
            data = buffer[:got]

    def _wait_for_link(self, count: int) -> None:
        """Take turns on a link of so many bytes per second."""
        if not self.faults.bytes_per_second:
            return
        with self._lock:
            now = time.monotonic()
            self._link_free_at = max(now, self._link_free_at) + count / self.faults.bytes_per_second
            wait = self._link_free_at - now
        time.sleep(wait)


def _read_head(client: socket.socket) -> bytes:
    """Return a request without body, or nothing at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = client.recv(1 << 16)
        if not data:
            return b""
        head += data
    return head


def _read_answer_head(server: socket.socket) -> tuple[bytes, bytes]:
    """Return an answer's head and what has come of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = server.recv(1 << 16)
        if not got:
            raise ConnectionError("the server ended early")
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def _refusal(fate: str, *, bodiless: bool) -> bytes:
    status, code = {
        "503": ("503 Service Unavailable", "SlowDown"),
        "expired": ("403 Forbidden", "ExpiredToken"),
    }[fate]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if bodiless else body)


def _reset(end: socket.socket) -> None:
    """Close with a reset, as a broken peer does."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
