"""Imports point one way: between files there is no circle, between packages only the arrows written down here."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("pal_ds", "shards", "launch", "corpora", "benchmarks")

#: What each package may import, itself apart. A new arrow is a decision: docs/design.md draws this table.
ARROWS: dict[str, set[str]] = {
    "pal_ds": set(),
    "pal_ds.config": set(),
    "pal_ds.command_line": {"pal_ds"},
    "pal_ds.pages": set(),
    "pal_ds.storage": set(),
    "pal_ds.formats": {"pal_ds.config", "pal_ds.storage"},
    "pal_ds.ffmpeg": {"pal_ds.formats"},
    "pal_ds.distributed": {"pal_ds.config"},
    "pal_ds.data": {"pal_ds.config", "pal_ds.formats", "pal_ds.storage"},
    "pal_ds.models": {"pal_ds.config", "pal_ds.distributed"},
    "pal_ds.planning": {"pal_ds.config", "pal_ds.data", "pal_ds.formats", "pal_ds.models", "pal_ds.storage"},
    "pal_ds.doctor": {
        *("pal_ds.command_line", "pal_ds.data", "pal_ds.formats", "pal_ds.models"),
        *("pal_ds.planning", "pal_ds.storage"),
    },
    "pal_ds.training": {
        *("pal_ds", "pal_ds.config", "pal_ds.data", "pal_ds.distributed", "pal_ds.formats"),
        *("pal_ds.models", "pal_ds.planning", "pal_ds.storage"),
    },
    "pal_ds.transfer": {
        *(
            "pal_ds.config",
            "pal_ds.ffmpeg",
            "pal_ds.formats",
            "pal_ds.models",
            "pal_ds.pages",
            "pal_ds.storage",
        ),
    },
    "pal_ds.viz": {
        *("pal_ds.config", "pal_ds.data", "pal_ds.distributed", "pal_ds.formats"),
        *("pal_ds.pages", "pal_ds.storage", "pal_ds.transfer"),
    },
    "pal_ds.cli": {
        *("pal_ds", "pal_ds.command_line", "pal_ds.config", "pal_ds.distributed", "pal_ds.doctor"),
        "pal_ds.formats",
        *("pal_ds.planning", "pal_ds.storage", "pal_ds.training", "pal_ds.transfer", "pal_ds.viz"),
    },
    "shards": {
        *("pal_ds.command_line", "pal_ds.ffmpeg", "pal_ds.formats", "pal_ds.pages", "pal_ds.storage"),
    },
    "corpora": {"pal_ds.pages", "pal_ds.storage"},
    "launch": {
        *("corpora", "pal_ds.cli", "pal_ds.formats"),
        *("pal_ds.storage", "pal_ds.transfer", "pal_ds.viz"),
    },
}


def name_of(path: Path) -> str:
    """Dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Modules of this project that a file imports, wherever in it; imports for type checkers count too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = imported_from(node, path)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in modules else base)
    return (found & modules) - {name_of(path)}


def imported_from(node: ast.ImportFrom, path: Path) -> str:
    """Dotted name after ``from``; files of the sharder, installed as pal_ds.shards, import one another relatively."""
    *folders, _ = path.relative_to(ROOT).parts
    module = node.module or ""
    in_sharder = folders[0] == "shards"
    assert not node.level or in_sharder, f"{path}:{node.lineno}: relative import"
    assert not in_sharder or module.split(".")[0] != "shards" or node.level, (
        f"{path}:{node.lineno}: make it relative"
    )
    base = folders[: len(folders) + 1 - node.level] if node.level else []
    return ".".join([*base, *module.split(".")]).rstrip(".")


@functools.cache
def graph() -> dict[str, set[str]]:
    """What every file imports of this project."""
    files = {name_of(path): path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))}
    return {name: imports_of(path, set(files)) for name, path in files.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (what is left when nodes without a way in or out are taken away)."""
    reach: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        todo = list(edges[start])
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += edges.get(node, ())
        reach[start] = seen
    groups = {
        tuple(sorted({start, *(other for other in reach[start] if start in reach.get(other, ()))}))
        for start in edges
        if start in reach[start]
    }
    return sorted(map(list, groups))


def package(module: str) -> str:
    """``pal_ds.<package>``, or the top-level package."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "pal_ds" else parts[0]


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_files_import_one_another_without_circles():
    assert circles(graph()) == []


@pytest.mark.parametrize("name", sorted({package(module) for module in graph()} - {"benchmarks"}))
def test_packages_import_only_what_is_written_down(name: str):
    found = {
        (module, target)
        for module, targets in graph().items()
        if package(module) == name
        for target in targets
        if package(target) not in {name, *ARROWS[name]}
    }
    assert not found


def test_the_arrows_written_down_hold_no_circle_and_none_that_nobody_needs():
    assert circles(ARROWS) == []
    used = {(package(module), package(target)) for module, targets in graph().items() for target in targets}
    unused = {(name, target) for name, targets in ARROWS.items() for target in targets} - used
    assert not unused


@pytest.mark.parametrize(
    "parent", ["pal_ds.data", "pal_ds.models", "pal_ds.training", "pal_ds.transfer", "shards"]
)
def test_folders_inside_a_package_hold_no_circle(parent: str):
    def folder(module: str) -> str:
        depth = parent.count(".") + 2
        return ".".join(module.split(".")[:depth])

    folders = {folder(module) for module in graph() if module.count(".") > parent.count(".") + 1}
    edges: dict[str, set[str]] = {name: set() for name in folders if name.startswith(f"{parent}.")}
    for module, targets in graph().items():
        if folder(module) in edges and module != folder(module):
            edges[folder(module)] |= {folder(target) for target in targets} & set(edges) - {folder(module)}
    assert circles(edges) == []


def test_nothing_but_benchmarks_and_itself_imports_launch():
    users = {
        package(module)
        for module, targets in graph().items()
        if any(package(target) == "launch" for target in targets)
    }
    assert users <= {"launch", "benchmarks"}
