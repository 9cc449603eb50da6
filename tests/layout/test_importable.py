"""Every file of the top-level packages imports, so that a move leaves no benchmark or script behind."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("benchmarks", "corpora", "launch", "shards")


def modules(package: str) -> list[str]:
    """Return the modules of a package whose folders and file can be named in an import statement."""
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in sorted((ROOT / package).rglob("*.py"))]
    return [".".join(names) for names in parts if all(name.isidentifier() for name in names)]


@pytest.mark.parametrize("module", [module for package in PACKAGES for module in modules(package)])
def test_a_module_imports(module: str) -> None:
    importlib.import_module(module)
