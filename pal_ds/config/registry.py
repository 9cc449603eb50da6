"""What can be chosen by name: each choice declares where it is built and which options it uses, and nothing else.

A choice names its implementation as ``module:attribute`` instead of importing it, so that a config is checked without
loading torch, and so that the config imports none of what it configures.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from pal_ds.config.base import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One thing that can be chosen.

    Attributes:
        name: what a config says.
        build: ``module:attribute`` of what is called to make it.
        options: options of its section that it uses and that others may not have; all others of them are refused.
    """

    name: str
    build: str
    options: tuple[str, ...] = ()

    def load(self) -> Any:
        """Import and return what ``build`` names."""
        module, _, attribute = self.build.partition(":")
        return getattr(importlib.import_module(module), attribute)


K = TypeVar("K", bound=Choice)


class Registry(Mapping[str, K], Generic[K]):
    """Choices by name, in the order in which they were added.

    Args:
        option: the option that chooses, for messages, e.g. ``model.backbone``.
    """

    def __init__(self, option: str, choices: Iterable[K] = ()) -> None:
        self.option = option
        self._choices: dict[str, K] = {}
        for choice in choices:
            self.add(choice)

    def add(self, choice: K) -> None:
        """Add a choice.

        Raises:
            ValueError: there is one of that name.
        """
        if choice.name in self._choices:
            raise ValueError(f"{self.option} = {choice.name!r} is there already; use another name")
        self._choices[choice.name] = choice

    def remove(self, name: str) -> None:
        """Take a choice out again."""
        del self._choices[name]

    def choose(self, name: str) -> K:
        """Return a choice.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self._choices:
            raise ConfigError(self.option, name, f"use one of {', '.join(self._choices)}")
        return self._choices[name]

    def declared(self) -> tuple[K, ...]:
        """Return every choice whose options others may not have."""
        return tuple(self.values())

    def check_options(self, name: str, section: str, values: Any) -> None:
        """Refuse options that another choice declares, this one doesn't, and that differ from their default.

        Args:
            name: the choice.
            section: of the options, for messages.
            values: the section's dataclass.

        Raises:
            ConfigError: naming the first option without effect.
        """
        used = self.choose(name).options
        defaults = {field.name: field.default for field in dataclasses.fields(values)}
        for option in dict.fromkeys(option for choice in self.declared() for option in choice.options):
            if option not in used:
                refuse_set(
                    section, option, getattr(values, option), defaults[option], f"{self.option}={name}"
                )

    def __getitem__(self, name: str) -> K:
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)


def refuse_set(section: str, option: str, value: Any, default: Any, choice: str) -> None:
    """Refuse an option that differs from its default although nothing reads it.

    Raises:
        ConfigError: it does.
    """
    if value != default:
        raise ConfigError(f"{section}.{option}", value, f"has no effect with {choice}; remove it")
