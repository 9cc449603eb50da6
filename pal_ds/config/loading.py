"""From YAML and ``section.key=value`` words to validated dataclasses, and back.

A file may name another as its ``base:`` (a path relative to itself, or the name of a shipped config) and then
holds only what differs. Unknown keys are errors with the nearest known key; values are checked against the
annotated type of their field, so that a config that loads is a config that runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pal_ds.config.base import ConfigError
from pal_ds.config.shipped_configs import find_config

C = TypeVar("C")
_MAX_BASES = 10


def load_tree(path: str | Path) -> dict[str, Any]:
    """Read a YAML file and the files it is based on into one nested dict.

    Args:
        path: the file, or the name of a config that ships with the package, such as ``pal_i3d_k400``.

    Raises:
        ConfigError: the file is missing, is no mapping, or the chain of bases is circular.
    """
    return _load_tree(find_config(path), ())


def apply_overrides(tree: dict[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Return ``tree`` with ``section.key=value`` words laid over it; values are read as YAML.

    Raises:
        ConfigError: a word has no ``=``.
    """
    result = _merge({}, tree)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError("command line", word, "write overrides as section.key=value")
        try:
            value = yaml.safe_load(text) if text else ""
        except yaml.YAMLError as error:
            raise ConfigError(name, text, f"not readable as YAML: {_in_one_line(error)}") from error
        node = result
        *sections, leaf = name.split(".")
        for section in sections:
            child = node.get(section)
            if not isinstance(child, dict):
                child = {}
                node[section] = child
            node = child
        node[leaf] = value
    return result


def build(kind: type[C], tree: Mapping[str, Any], prefix: str = "") -> C:
    """Make a dataclass (with nested dataclasses as sections) from a nested mapping.

    Raises:
        ConfigError: an unknown key, a value of another type, or a value that the section itself refuses.
    """
    kind = _kind_of(kind, tree)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in tree.items():
        full = f"{prefix}{name}"
        if name not in fields:
            raise ConfigError(
                full, value, _other_kind(kind, name, prefix) or _suggestion(name, fields, prefix)
            )
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(full, value, "is a section: give its keys, e.g. " + _example(hint, full))
            values[name] = build(typing.cast(type[Any], hint), value, f"{full}.")
        else:
            values[name] = _coerce(value, hint, full)
    for name, hint in hints.items():
        # Sections that are not mentioned are built too, so that their own checks run.
        if dataclasses.is_dataclass(hint) and name not in values:
            values[name] = build(typing.cast(type[Any], hint), {}, f"{prefix}{name}.")
    return kind(**values)


def _kind_of(kind: type[C], tree: Mapping[str, Any]) -> type[C]:
    """Return the class of a section; where the section names its kind, the class of that kind."""
    chooser = getattr(kind, "kind_of", None)
    return kind if chooser is None else typing.cast(type[C], chooser(tree))


def to_tree(config: Any) -> dict[str, Any]:
    """Return a config as plain dicts, lists and scalars: what :func:`build` takes."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def to_yaml(config: Any) -> str:
    """Return a config as YAML with every option spelled out."""
    return yaml.safe_dump(to_tree(config), sort_keys=False)


def describe(kind: type[Any], prefix: str = "") -> list[tuple[str, Any, str]]:
    """Return (name, default, help) of every option below a config class, for ``--help`` and the docs."""
    rows: list[tuple[str, Any, str]] = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name}"
        hint = hints[field.name]
        if hasattr(hint, "kinds"):
            rows += _describe_kinds(hint, f"{name}.")
        elif dataclasses.is_dataclass(hint):
            rows += describe(typing.cast(type[Any], hint), f"{name}.")
        else:
            made = field.default_factory
            default = made() if made is not dataclasses.MISSING else field.default
            rows.append((name, default, field.metadata.get("help", "")))
    return rows


def _describe_kinds(base: Any, prefix: str) -> list[tuple[str, Any, str]]:
    """Describe a section of several kinds: what all have, then what single ones have, with their names."""
    shared = describe(base, prefix)
    rows: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    for kind, options in base.kinds().items():
        for name, default, text in describe(options, prefix):
            if name not in {each[0] for each in shared}:
                rows.setdefault(name, (default, {}))[1].setdefault(text, []).append(kind)
    return shared + [
        (name, default, "; ".join(f"{', '.join(kinds)}: {text}" for text, kinds in texts.items()))
        for name, (default, texts) in rows.items()
    ]


def _load_tree(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in seen or len(seen) >= _MAX_BASES:
        raise ConfigError("base", str(path), "the chain of base files is circular or too long")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError("--config", str(path), f"not readable as YAML: {_in_one_line(error)}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError("--config", str(path), "expected a mapping of sections")
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError("base", base, f"give one path relative to {path}, or the name of a shipped config")
    return _merge(_load_tree(find_config(base, field="base", beside=path.parent), (*seen, resolved)), tree)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {
        name: _merge({}, value) if isinstance(value, Mapping) else value for name, value in under.items()
    }
    for name, value in over.items():
        if isinstance(value, Mapping):
            below = result.get(name)
            result[name] = _merge(below if isinstance(below, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def _coerce(value: Any, hint: Any, name: str) -> Any:  # noqa: PLR0911 (one return a type)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None and len(options) < len(typing.get_args(hint)):
            return None
        return _coerce_to_any(value, options, name)
    if origin is tuple:
        return _coerce_tuple(value, typing.get_args(hint), name)
    if origin is list:
        return list(_coerce_tuple(value, (typing.get_args(hint)[0], Ellipsis), name))
    if dataclasses.is_dataclass(hint):
        return _coerce_entry(value, hint, name)
    if hint is bool and isinstance(value, bool):
        return value
    if (
        hint is int
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and float(value).is_integer()
    ):
        return int(value)
    if hint is float and not isinstance(value, bool):
        # YAML 1.1 reads 1e-4 (without a dot) as text.
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            return number
    if hint is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    wanted = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}.get(
        hint, str(hint)
    )
    raise ConfigError(name, value, f"expected {wanted}")


def _coerce_to_any(value: Any, hints: list[Any], name: str) -> Any:
    """Return a value as the first of several types that it fits; text stays text, and nothing else becomes it."""
    if isinstance(value, str) and str in hints:
        return value
    lists = [hint for hint in hints if typing.get_origin(hint) in (tuple, list)]
    if lists and isinstance(value, Mapping):
        raise ConfigError(name, value, "put it in a list: [{...}]")
    if lists and isinstance(value, (list, tuple)):
        return _coerce(value, lists[0], name)
    return _coerce(value, hints[0], name)


def _coerce_entry(value: Any, hint: Any, name: str) -> Any:
    """Make a section that stands in a list; where it has a shorthand, plain text is that option."""
    shorthand = getattr(hint, "SHORTHAND", None)
    if isinstance(value, str) and shorthand:
        value = {shorthand: value}
    if not isinstance(value, Mapping):
        raise ConfigError(
            name, value, f"give its keys: {', '.join(f.name for f in dataclasses.fields(hint))}"
        )
    return build(hint, value, f"{name}.")


def _coerce_tuple(value: Any, arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(name, value, "expected a list, e.g. [1, 2]")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        numbered = dataclasses.is_dataclass(arguments[0])
        return tuple(
            _coerce(item, arguments[0], f"{name}[{number}]" if numbered else name)
            for number, item in enumerate(value)
        )
    if len(value) != len(arguments):
        raise ConfigError(name, value, f"expected a list of {len(arguments)} values")
    return tuple(_coerce(item, argument, name) for item, argument in zip(value, arguments, strict=True))


def _other_kind(kind: type[Any], name: str, prefix: str) -> str:
    """Say so where an option is one of another kind of this section."""
    kinds = kind.kinds() if hasattr(kind, "kinds") else {}
    if not any(name == field.name for other in kinds.values() for field in dataclasses.fields(other)):
        return ""
    mine = next((each for each, other in kinds.items() if other is kind), "")
    return f"has no effect with {prefix}name={mine}; remove it"


def _suggestion(name: str, known: Mapping[str, Any], prefix: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"unknown key; did you mean {prefix}{close[0]}?"
    return f"unknown key; {'the section has' if prefix else 'sections are'} {', '.join(known)}"


def _example(hint: Any, full: str) -> str:
    return f"{full}.{dataclasses.fields(hint)[0].name}=…"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
