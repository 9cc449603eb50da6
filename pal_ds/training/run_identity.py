"""What makes a run the same run: fixed by its first start, checked at each resume (docs/formats.md, "Run folder")."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from pal_ds.config import Config, to_tree
from pal_ds.config.base import fixed_options
from pal_ds.config.encoders import PREFIX
from pal_ds.training.source_identity import changed_source

log = logging.getLogger(__name__)

#: Sections whose options, as far as they are declared fixed, make a run what it is.
_SECTIONS = ("run", "data", "synthesis", "augment", "objective", "model", "queue")
_WARNED = ("precision", "optimizer", "schedule")


class IdentityError(ValueError):
    """A resume whose settings would make it another run; exit status 2."""


def identity_of(
    config: Config, manifest_digest: str, sources: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the settings that a resume may not change, as a plain nested dict.

    Args:
        config: the run.
        manifest_digest: of the only shard set, or of the first.
        sources: what :func:`pal_ds.training.source_identity.identity_of_sources` returns.
    """
    sections = {name: getattr(config, name) for name in _SECTIONS}
    found = {"manifest": manifest_digest} | {name: _fixed(section) for name, section in sections.items()}
    return found | ({"sources": [dict(source) for source in sources]} if sources else {})


def _fixed(section: Any) -> dict[str, Any]:
    """Return a section's fixed options as plain values."""
    tree = to_tree(section)
    if tree.get("encoder"):
        # What the folder of an encoder says is part of the run; where the folder lies is not.
        tree["backbone"] = PREFIX
    return {name: tree[name] for name in fixed_options(section)}


def check_identity(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse a resume that changes what the first start fixed.

    Raises:
        IdentityError: naming the first field that differs, with both values.
    """
    changed = changed_source(saved, current)
    if changed is not None:
        raise IdentityError(changed)
    saved, current = ({**each, "sources": None} for each in (saved, current))
    for name, before, now in _differences(_completed(saved), current, ""):
        if name == "manifest":
            raise IdentityError(
                "data.shards: the shard set's manifest is not the one this run began with; "
                "use that set, or start a new run.dir"
            )
        raise IdentityError(
            f"{name} = {now!r}: this run began with {before!r}; set it back, or start a new run.dir"
        )


def _completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved identity with the defaults of options that did not exist when it was written."""
    kinds = get_type_hints(Config)
    return dict(saved) | {name: {**_fixed(kinds[name]()), **saved.get(name, {})} for name in _SECTIONS[1:]}


def warn_changes(saved_config: Mapping[str, Any], config: Config) -> list[str]:
    """Log the changes that a resume may make but should know of; return them as text."""
    current = to_tree(config)
    changes = []
    for section in _WARNED:
        for name, before, now in _differences(saved_config.get(section), current[section], section):
            changes.append(f"{name}: {before!r} -> {now!r}")
            log.warning("resuming with another %s: %r, was %r", name, now, before)
    return changes


def _differences(before: Any, now: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(key for key in now if key not in before)]:
            full = f"{name}.{key}" if name else str(key)
            yield from _differences(before.get(key), now.get(key), full)
    elif before != now:
        yield name, before, now
