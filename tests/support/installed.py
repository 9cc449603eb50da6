"""The package as a user gets it: built to files, and installed where the checkout can't be seen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = (".*", "__pycache__", "*.egg-info", "build", "dist", "runs")


def copy_source(folder: Path) -> Path:
    """Copy the checkout without what is made in it, so that a build leaves nothing there."""
    return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_SOURCE)))


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a "wheel" or an "sdist" by the build system that pyproject.toml names; return the file."""
    out.mkdir(parents=True, exist_ok=True)
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    call([sys.executable, "-c", code, str(out)], cwd=source)
    (made,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist; return the one folder in it."""
    with tarfile.open(sdist) as tar:
        tar.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def files_in(wheel: Path) -> dict[str, bytes]:
    """Return a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def call(command: list[str], *, cwd: Path, env: dict[str, str] | None = None, seconds: float = 240.0) -> str:
    """Run a command to its end, which must be good; return its stdout."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Installation:
    """An environment that holds the package from a wheel or an sdist, and only borrows its dependencies."""

    def __init__(self, folder: Path, package: Path) -> None:
        venv.create(folder / "env", symlinks=True, with_pip=False)
        self.work = folder / "work"
        self.work.mkdir()
        self.bin = folder / "env" / "bin"
        self.python = str(self.bin / "python")
        (site,) = (folder / "env" / "lib").glob("python*/site-packages")
        # As a plain entry of the path: the .pth files of that folder, which lead to the checkout, aren't read.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python]
        options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
        call([*pip, "install", *options, str(package)], cwd=self.work)
        hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        self.env = {name: value for name, value in os.environ.items() if name not in hidden}
        self.env |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(self, command: str, *words: object) -> str:
        """Run one of the package's commands; return its stdout."""
        return call([str(self.bin / command), *map(str, words)], cwd=self.work, env=self.env)

    def run_module(self, *words: object) -> str:
        """Run ``python -m …``; return its stdout."""
        return call([self.python, "-m", *map(str, words)], cwd=self.work, env=self.env)

    def evaluate(self, code: str) -> str:
        """Run Python code; return its stdout."""
        return call([self.python, "-c", code], cwd=self.work, env=self.env)


def free_port() -> str:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
