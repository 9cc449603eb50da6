#!/usr/bin/env python
"""Training across two hosts with own addresses; one is cut off in the middle; what is left, and what goes on.

    python -m benchmarks.training.two_hosts [--launch ssh|no_ssh] [--watchdog SECONDS]

The hosts are network namespaces on this machine (root, Linux, ``iproute2``); ``--launch ssh`` (``openssh-server`` and
``pdsh``) is the real hostfile launch, ``no_ssh`` one launch a host. Exit status 0 where every check held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.training.hosts import Hosts, HostsUnavailableError
from benchmarks.training.tiny import TINY, make_set

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
_SCRIPT = "launch/pretrain.py"
_PORT = 29541


class Fleet:
    """Launches of one run on both hosts.

    Args:
        hosts: the hosts.
        folder: scratch folder that both see.
        settings: of the run, without its length.
        ssh: launch by hostfile over ssh; else once on every host.
    """

    def __init__(self, hosts: Hosts, folder: Path, settings: list[str], *, ssh: bool) -> None:
        self._hosts = hosts
        self._folder = folder
        self._settings = settings
        self._ssh = ssh
        self._starts = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "log"
        hostfile = "".join(f"{address} slots=1\n" for address in hosts.addresses)
        (folder / "hostfile").write_text(hostfile)
        variables = {
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "eth0",
            "DS_ACCELERATOR": "cpu",
        }
        (folder / "ds_env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        self._environment = {
            **os.environ,
            **variables,
            "DS_ENV_FILE": str(folder / "ds_env"),
            "PDSH_SSH_ARGS_APPEND": hosts.ssh_options,
        }

    def start(self, *more: str) -> None:
        """Launch the run."""
        self._starts += 1
        self.log = self._folder / f"log-{self._starts}"
        shared = ["--hostfile", str(self._folder / "hostfile"), "--master_addr", self._hosts.addresses[0]]
        shared += ["--master_port", str(_PORT + self._starts)]
        script = [str(ROOT / _SCRIPT), "--config", str(ROOT / "configs/demo.yaml"), *self._settings, *more]
        deepspeed = str(BIN / "deepspeed")
        if self._ssh:
            # The check calls a plain ssh, which knows nothing of these hosts' keys.
            commands = [(0, [deepspeed, *shared, "--launcher", "pdsh", "--no_ssh_check", *script])]
        else:
            commands = [
                (number, [deepspeed, *shared, "--no_ssh", "--node_rank", str(number), *script])
                for number in range(len(self._hosts.addresses))
            ]
        with self.log.open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    self._hosts.inside(host, command),
                    env=self._environment,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for host, command in commands
            ]

    def wait(self, seconds: float) -> list[int]:
        """Wait for the launches; return their exit statuses."""
        end = time.monotonic() + seconds
        return [process.wait(max(0.1, end - time.monotonic())) for process in self._processes]

    def kill(self) -> None:
        """Kill what is left of the launches on this side."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def ranks(self, host: int) -> list[int]:
        """Return the ids of a host's rank processes."""
        return [
            pid
            for pid in self._hosts.processes(host, _SCRIPT)
            if "deepspeed"
            not in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split(_SCRIPT)[0]
        ]


def main(words: list[str] | None = None) -> int:
    """Run; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--launch", choices=("ssh", "no_ssh"), default="ssh", help="(default: %(default)s)")
    parser.add_argument("--watchdog", type=float, default=20.0, help="seconds (default: %(default)s)")
    args = parser.parse_args(words)
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # remove the hosts all the same
    with tempfile.TemporaryDirectory(prefix="pal-two-hosts-") as name:
        folder = Path(name)
        try:
            with Hosts(folder) as hosts:
                if args.launch == "ssh" and not hosts.has_ssh:
                    sys.stderr.write("skipped: no sshd or pdsh here (use --launch no_ssh)\n")
                    return 0
                figures = measure(hosts, folder, ssh=args.launch == "ssh", watchdog=args.watchdog)
        except HostsUnavailableError as error:
            sys.stderr.write(f"skipped: {error}\n")
            return 0
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    failed = [name for name, value in figures.items() if value is False]
    if failed:
        sys.stderr.write(f"FAILED: {', '.join(failed)}\n")
    return 1 if failed else 0


def measure(hosts: Hosts, folder: Path, *, ssh: bool, watchdog: float) -> dict[str, Any]:
    """Train across the hosts, cut one off, and go on; return what was seen."""
    shards = make_set(folder / "clips")
    shared = [f"data.shards={shards}", *TINY, "data.retry_seconds=5", f"safety.watchdog_seconds={watchdog:g}"]
    whole = Fleet(hosts, folder, [*shared, f"run.dir={folder}/whole"], ssh=ssh)
    whole.start("run.max_steps=20")
    statuses = whole.wait(240)
    if any(statuses):
        sys.stderr.write(whole.log.read_text()[-4000:])
        raise SystemExit(f"training across the hosts ended with {statuses}")
    environment = json.loads((folder / "whole" / "environment.json").read_text())
    run = folder / "cut"
    fleet = Fleet(hosts, folder, [*shared, f"run.dir={run}", "log.tensorboard=false"], ssh=ssh)
    fleet.start("run.max_steps=1000000")
    try:
        _wait_for(lambda: len(_steps(run)) >= 6, fleet)
        ranks = {host: fleet.ranks(host) for host in (0, 1)}
        hosts.set_link(1, "down")
        cut = time.monotonic()
        gone: dict[int, float] = {}
        while len(gone) < len(ranks) and time.monotonic() - cut < watchdog + 120:
            for host, pids in ranks.items():
                if host not in gone and not any(Path(f"/proc/{pid}").exists() for pid in pids):
                    gone[host] = time.monotonic() - cut
            time.sleep(0.1)
    finally:
        fleet.kill()
        hosts.set_link(1, "up")
    status = json.loads((run / "STATUS.json").read_text())
    committed = max(int(path.parent.name[5:]) for path in run.glob("checkpoints/*/COMMITTED"))
    told = fleet.log.read_text()
    fleet.start(f"run.max_steps={max(20, committed + 2)}")
    statuses = fleet.wait(240)
    one, two = _steps(folder / "whole"), _steps(run)
    both = sorted(set(one) & set(two))
    figures = {
        "launch": "hostfile over ssh (pdsh)" if ssh else "--no_ssh on every host",
        "hosts": environment["hosts"],
        "watchdog seconds": watchdog,
        "seconds until the rank on the other host left": round(gone.get(0, float("nan")), 1),
        "seconds until the rank that was cut off left": round(gone.get(1, float("nan")), 1),
        "status": status,
        "resumed at": committed,
        "both hosts trained": environment["hosts"] == ["node1", "node2"],
        "both ranks left in the watchdog's time": len(gone) == 2 and max(gone.values()) < watchdog + 30,
        "the status names the rank and its host": "rank 1 on node2" in status.get("error", ""),
        "the restart resumed and finished": not any(statuses)
        and f"resuming at step {committed}" in fleet.log.read_text(),
        "the same batches as without the cut": len(both) >= 20
        and all(one[step]["batch_hash"] == two[step]["batch_hash"] for step in both),
        "the same losses as without the cut": all(one[step]["loss"] == two[step]["loss"] for step in both),
    }
    if not ssh:  # over ssh its last words went where its packets went
        figures["the rank cut off says that it is"] = "can't be read" in told
    return figures


def _steps(run: Path) -> dict[int, dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # The last line may be being written.
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["step"]: row for row in rows if "val_loss" not in row}


def _wait_for(condition: Any, fleet: Fleet) -> None:
    end = time.monotonic() + 240
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"training did not begin:\n{fleet.log.read_text()[-4000:]}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
