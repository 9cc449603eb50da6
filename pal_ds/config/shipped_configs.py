"""The configs that ship with the package, found by name: ``pal_i3d_k400`` instead of a path."""

from __future__ import annotations

import difflib
from pathlib import Path

from pal_ds.config.base import ConfigError

_ENDING = ".yaml"


def folder() -> Path:
    """Return the folder of the shipped configs: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped() -> dict[str, Path]:
    """Return the files by name (file name without folder and ending), sorted by name."""
    return {path.stem: path for path in sorted(folder().rglob(f"*{_ENDING}"), key=lambda path: path.stem)}


def find_config(text: str | Path, *, field: str = "--config", beside: Path | None = None) -> Path:
    """Return the file that a path or the name of a shipped config stands for; an existing file comes first.

    Args:
        text: a path, or a name without folder and ending.
        field: where it was given, for the error.
        beside: folder that a relative path starts from (default: the current one).

    Raises:
        ConfigError: there is neither such a file nor such a name; lists the names.
    """
    path = Path(text) if beside is None else beside / text
    if path.exists() and not path.is_dir():
        return path
    files = shipped()
    if str(text) in files:
        return files[str(text)]
    if path.is_dir():
        raise ConfigError(field, str(text), "is a folder; give one YAML file")
    close = difflib.get_close_matches(path.stem, files, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    fix = f"no such file, and no shipped config has this name; {hint}names are {_listing(files)}"
    raise ConfigError(field, str(text), fix)


def _listing(files: dict[str, Path]) -> str:
    """Return the names in one line, grouped by the folder that they lie in."""
    groups: dict[str, list[str]] = {}
    for name, path in files.items():
        groups.setdefault(path.parent.relative_to(folder()).as_posix(), []).append(name)
    heads = {group: "" if group == "." else f"{group}: " for group in sorted(groups)}
    return "; ".join(f"{head}{', '.join(groups[group])}" for group, head in heads.items())
