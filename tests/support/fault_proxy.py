"""A TCP proxy in front of a server that drops a share of the HTTP requests (seeded), or slows uploads down."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time

_REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) ")


class FaultProxy:
    """Listens on loopback and passes bytes on; a dropped request's connection is reset, half its answer unsent.

    The Host header that a client signed stays as it is, so that its signature stays valid only for the proxy's
    own address; the server behind does not look at it.
    """

    def __init__(
        self, port: int, *, share: float = 0.0, seed: int = 0, bytes_per_second: float | None = None
    ) -> None:
        self._server_port = port
        self._share = share
        self._rate = bytes_per_second
        self._wire = threading.Lock()
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests = 0
        self.dropped = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            fate = {"left": None}
            threading.Thread(target=self._up, args=(client, server, fate), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client, fate), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, fate: dict[str, int | None]) -> None:
        try:
            while data := client.recv(1 << 16):
                if _REQUEST.match(data):
                    with self._lock:
                        self.requests += 1
                        if self._dice.random() < self._share:
                            self.dropped += 1
                            fate["left"] = self._dice.choice([0, 30, 20_000])
                if fate["left"] == 0:
                    break
                if self._rate is not None:
                    with self._wire:
                        time.sleep(len(data) / self._rate)
                server.sendall(data)
        except OSError:
            pass
        _reset(client)
        _reset(server)

    def _down(self, server: socket.socket, client: socket.socket, fate: dict[str, int | None]) -> None:
        try:
            while data := server.recv(1 << 14):
                left = fate["left"]
                if left is not None:
                    client.sendall(data[:left])
                    fate["left"] = left - len(data[:left])
                    if fate["left"] == 0:
                        break
                else:
                    client.sendall(data)
        except OSError:
            pass
        _reset(client)
        _reset(server)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
