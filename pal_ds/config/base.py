"""How an option is declared, and what a wrong one says.

A section is a frozen, keyword-only dataclass whose fields are made with :func:`option`, so that the default,
the type and the documentation of an option stand in one place. ``__post_init__`` checks values with
:func:`check` and raises :class:`ConfigError`, whose message names the field, the value and the fix.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that can't be run: one line with the field, the value and the fix (exit status 2)."""

    def __init__(self, name: str, value: object, fix: str) -> None:
        self.field = name
        self.value = value
        self.fix = fix
        super().__init__(f"{name} = {value!r}: {fix}")


def option(default: T, text: str, *, fixed: bool | None = None) -> T:
    """Declare one option of a section.

    Args:
        default: the value used where nothing is given; a list or dict is copied for every section.
        text: one sentence for people: meaning, unit, allowed values, source.
        fixed: whether a run keeps it for life, so that a resume that changes it is refused; None: as the section's
            ``FIXED`` says, and without one it may change.

    Returns:
        A dataclass field, typed as its default so that sections type-check.
    """
    metadata = {"help": text, "fixed": fixed}
    if isinstance(default, (list, dict)):
        made: Any = dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    else:
        made = dataclasses.field(default=default, metadata=metadata)
    return made  # type: ignore[no-any-return]


def fixed_options(section: Any) -> tuple[str, ...]:
    """Return the names of a section's options that a run keeps for life."""
    by_default = getattr(section, "FIXED", False)
    declared = {each.name: each.metadata.get("fixed") for each in dataclasses.fields(section)}
    return tuple(name for name, fixed in declared.items() if (by_default if fixed is None else fixed))


def check(condition: bool, name: str, value: object, fix: str) -> None:
    """Raise :class:`ConfigError` naming ``name``, ``value`` and ``fix`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(name, value, fix)
