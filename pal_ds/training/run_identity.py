"""What makes a run the same run: fixed by its first start, checked at each resume (docs/formats.md, "Run folder")."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pal_ds.config import Config, to_tree
from pal_ds.config.data import AugmentConfig, DataConfig, SynthesisConfig
from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig

log = logging.getLogger(__name__)

_DATA_KEYS = (
    "global_batch",
    "group_size",
    "lanes",
    "accumulation",
    "slice_bytes",
    "window_slices",
    "block_clips",
)
_MODEL_FREE = ("channels_last", "compile", "weights")
_WARNED = ("precision", "optimizer", "schedule")


class IdentityError(ValueError):
    """A resume whose settings would make it another run; exit status 2."""


def identity_of(config: Config, manifest_digest: str) -> dict[str, Any]:
    """Return the settings that a resume may not change, as a plain nested dict."""
    tree = to_tree(config)
    return {
        "manifest": manifest_digest,
        "run": {"seed": config.run.seed},
        "data": {key: tree["data"][key] for key in _DATA_KEYS},
        "synthesis": tree["synthesis"],
        "augment": tree["augment"],
        "objective": tree["objective"],
        "model": {key: value for key, value in tree["model"].items() if key not in _MODEL_FREE},
        "queue": tree["queue"],
    }


def check_identity(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse a resume that changes what the first start fixed.

    Raises:
        IdentityError: naming the first field that differs, with both values.
    """
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
    sections = {
        "data": DataConfig(),
        "synthesis": SynthesisConfig(),
        "augment": AugmentConfig(),
        "objective": ObjectiveConfig(),
        "model": ModelConfig(),
        "queue": QueueConfig(),
    }
    completed = dict(saved)
    for name, section in sections.items():
        defaults = to_tree(section)
        if name == "data":
            defaults = {key: defaults[key] for key in _DATA_KEYS}
        if name == "model":
            defaults = {key: value for key, value in defaults.items() if key not in _MODEL_FREE}
        completed[name] = {**defaults, **saved.get(name, {})}
    return completed


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
