"""Which modules the API reference shows: one page a package, every public module of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_OPTIONS = """
    options:
      heading_level: 2
"""


def packages() -> list[str]:
    """Return the packages that have a page: those below ``pal_ds``, and the sharder."""
    inside = [f"pal_ds.{path.name}" for path in sorted((ROOT / "pal_ds").iterdir()) if any(path.glob("*.py"))]
    return [*inside, "shards"]


def modules(package: str) -> Iterator[str]:
    """Yield the public modules of a package that hold code, in order."""
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.name == "__init__.py":
            parts = parts[:-1]
        private = any(part.startswith("_") for part in parts)
        if not private and any(word in path.read_text() for word in ("def ", "class ", "__all__")):
            yield ".".join(parts)


def api_page(package: str) -> str:
    """Return the page of a package as Markdown for mkdocstrings."""
    parts = [f"# {package}\n"]
    parts += [f"::: {module}{_OPTIONS}" for module in modules(package)]
    return "\n".join(parts)


def api_index() -> str:
    """Return the page that lists the packages."""
    lines = [f"- [{package}]({package}.md)" for package in packages()]
    return "# API\n\nEvery public module, from its docstrings.\n\n" + "\n".join(lines) + "\n"
