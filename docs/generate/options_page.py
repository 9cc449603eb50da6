"""The reference of every option, made from the dataclasses that declare them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

from pal_ds.config import Config, ConfigError
from pal_ds.config.end_to_end import EndToEndConfig
from pal_ds.config.tac import TacConfig
from pal_ds.config.transfer import TransferConfig

COMMANDS: tuple[tuple[str, str, type[Any]], ...] = (
    ("Pre-training", "`launch/pretrain.py --config FILE section.key=value …`", Config),
    ("Heads", "`launch/transfer.py --task tad|apg|vg --config FILE section.key=value …`", TransferConfig),
    ("End to end", "`launch/transfer.py --task e2e --config FILE section.key=value …`", EndToEndConfig),
    ("Fine-tuning", "`launch/transfer.py --task tac --config FILE section.key=value …`", TacConfig),
)
_HEAD = """# Options

Every option of a config file and of the command line, made from the dataclasses in `pal_ds/config`.
`launch/pretrain.py options` and `launch/transfer.py --options` print the same.

An option without effect is an error, and so is an unknown one: the message names the field, the value and the fix.
A file may name another as its `base:` and then holds only what differs.
"""
#: Values that no option of that type takes, to learn from the error which it does.
_IMPOSSIBLE: dict[type, tuple[Any, ...]] = {
    str: ("?",),
    int: (-(10**9), 10**9, 7),
    float: (-1e9, 1e9),
    tuple: ((), (9, -9), (-9, -9)),
}


def options_page() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for title, command, kind in COMMANDS:
        parts.append(f"## {title}\n\n{command}\n")
        top = [field for field in dataclasses.fields(kind) if not _is_section(kind, field.name)]
        for field in dataclasses.fields(kind):
            if _is_section(kind, field.name):
                section = typing.get_type_hints(kind)[field.name]
                for variant, options in _variants(section):
                    parts.append(_section(title, field.name, options, variant))
        if top:
            parts.append(f"### {title}: the rest\n\n" + _table(_rows(kind, "", top)))
    return "\n".join(parts)


def allowed_values(section: type[Any], prefix: str, name: str) -> str:
    """Return what an option takes: its type, and what the section says when it is given something impossible."""
    hint = typing.get_type_hints(section)[name]
    kind, words = _type_words(hint)
    fixes = []
    for value in _IMPOSSIBLE.get(kind, ()):
        fix = _refusal(section, prefix, name, value)
        if fix and fix not in fixes and not fix.startswith(("has no effect", "has an effect", "give ")):
            fixes.append(fix)
    return "; ".join([words, *(fix.removeprefix("use ") for fix in fixes)])


def _variants(section: Any) -> list[tuple[str, type[Any]]]:
    """Return the dataclasses of a section with what chooses them: one, or one for each name that it can have."""
    if not hasattr(section, "kinds"):
        return [("", section)]
    return [(f" with name={name}", options) for name, options in section.kinds().items()]


def _section(title: str, name: str, section: type[Any], variant: str) -> str:
    text = (section.__doc__ or "").strip().splitlines()[0]
    rows = _rows(section, f"{name}.", dataclasses.fields(section))
    return f"### {title}: {name}{variant}\n\n{text}\n\n{_table(rows)}"


def _rows(section: type[Any], prefix: str, fields: Any) -> Iterator[tuple[str, str, str, str]]:
    for field in fields:
        made = field.default_factory
        default = made() if made is not dataclasses.MISSING else field.default
        allowed = (
            allowed_values(section, prefix, field.name)
            if prefix
            else _type_words(typing.get_type_hints(section)[field.name])[1]
        )
        yield f"`{prefix}{field.name}`", f"`{_yaml(default)}`", field.metadata.get("help", ""), allowed


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| option | default | meaning | takes |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _refusal(section: type[Any], prefix: str, name: str, value: Any) -> str | None:
    """Return how a section refuses a value; fields that must be given get a text."""
    given: dict[str, Any] = {}
    for _ in dataclasses.fields(section):
        try:
            section(**{**given, name: value})
        except ConfigError as error:
            if error.field == f"{prefix}{name}":
                return error.fix
            other = error.field.removeprefix(prefix)
            if other in given or error.value != "":
                return None
            given[other] = "x"
        except (TypeError, ValueError, ZeroDivisionError):
            return None
        else:
            return None
    return None


def _type_words(hint: Any) -> tuple[type, str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kind, words = _type_words(next(each for each in arguments if each is not type(None)))
        return kind, f"{words}, or `null`"
    if origin is typing.Literal:
        return type(None), "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        inner = _type_words(arguments[0])[1]
        return tuple, f"list of {inner}s" if Ellipsis in arguments else f"list of {len(arguments)} {inner}s"
    names = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}
    return (origin or hint), names.get(hint, str(hint))


def _is_section(kind: type[Any], name: str) -> bool:
    return dataclasses.is_dataclass(typing.get_type_hints(kind)[name])


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return '""' if value == "" else str(value)
