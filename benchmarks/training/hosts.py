"""Two hosts on one machine: network namespaces with own addresses and host names, an sshd on each (Linux, root)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType


class HostsUnavailableError(Exception):
    """This machine can't make network namespaces; the message says why."""


class Hosts:
    """``count`` hosts on a bridge of their own; everything made is removed at the end.

    Args:
        folder: for keys and sshd's files.
        count: how many hosts.

    Attributes:
        addresses: one for each host.
        has_ssh: an sshd listens on every host, and ``pdsh`` is there.

    Raises:
        HostsUnavailableError: not root, no ``ip`` command, or namespaces are not permitted.
    """

    def __init__(self, folder: Path, count: int = 2) -> None:
        mark = secrets.token_hex(2)
        self._folder = folder
        self._bridge = f"palbr{mark}"
        self._names = [f"pal{mark}-{number + 1}" for number in range(count)]
        subnet = f"10.77.{secrets.randbelow(250) + 1}"
        self.addresses = [f"{subnet}.{number + 2}" for number in range(count)]
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.has_ssh = False

    def __enter__(self) -> Hosts:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise HostsUnavailableError("needs root and the ip command (Debian: iproute2)")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self._remove()
            raise HostsUnavailableError(f"network namespaces are not permitted here: {error}") from error
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def inside(self, host: int, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command on a host, under its host name."""
        script = f'hostname node{host + 1}; exec "$@"'
        unshare = ["unshare", "--uts", "sh", "-c", script, "sh", *command]
        return ["ip", "netns", "exec", self._names[host], *unshare]

    def set_link(self, host: int, state: str) -> None:
        """Take a host's network ``down`` or bring it ``up``."""
        _run("ip", "-n", self._names[host], "link", "set", "eth0", state)

    def processes(self, host: int, mentioning: str) -> list[int]:
        """Return the ids of a host's processes whose command line holds a text."""
        found = subprocess.run(
            ["ip", "netns", "pids", self._names[host]], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in found.stdout.split() if mentioning in _command_of(int(pid))]

    def _make(self) -> None:
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "link", "set", self._bridge, "up")
        for name, address in zip(self._names, self.addresses, strict=True):
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", name, "master", self._bridge, "up")
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")
        if shutil.which("pdsh") and shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"):
            self._start_sshd()

    def _start_sshd(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("host", "user"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / key))
        shutil.copy(self._folder / "user.pub", self._folder / "authorized_keys")
        for number, address in enumerate(self.addresses):
            config = self._folder / f"sshd_{number}"
            lines = [
                "Port 22",
                f"ListenAddress {address}",
                f"HostKey {self._folder}/host",
                f"AuthorizedKeysFile {self._folder}/authorized_keys",
                "PidFile none",
                "PermitRootLogin prohibit-password",
                "PasswordAuthentication no",
                "UsePAM no",
                "StrictModes no",
            ]
            config.write_text("\n".join(lines) + "\n")
            daemon = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "sshd"
            with (self._folder / f"sshd_{number}.log").open("wb") as log:
                command = self.inside(number, [daemon, "-D", "-f", str(config)])
                self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
        client = self._folder / "ssh_config"
        client.write_text(
            f"Host 10.77.*\n  IdentityFile {self._folder}/user\n  StrictHostKeyChecking no\n"
            f"  UserKnownHostsFile {self._folder}/known_hosts\n  LogLevel ERROR\n"
        )
        self.has_ssh = all(self._answers(address) for address in self.addresses)

    @property
    def ssh_options(self) -> str:
        """What ``ssh`` needs to reach the hosts; ``pdsh`` takes it from PDSH_SSH_ARGS_APPEND."""
        return f"-F {self._folder}/ssh_config"

    def _answers(self, address: str) -> bool:
        end = time.monotonic() + 15
        command = self.inside(0, ["ssh", *self.ssh_options.split(), address, "true"])
        while time.monotonic() < end:
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def _remove(self) -> None:
        for name in self._names:
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for pid in map(int, found.stdout.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()
        for command in (
            *(["ip", "netns", "del", name] for name in self._names),
            *(["ip", "link", "del", name] for name in self._names),
            ["ip", "link", "del", self._bridge],
        ):
            subprocess.run(command, capture_output=True, check=False)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
