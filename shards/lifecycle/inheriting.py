"""What ``append`` does unless told otherwise: as the set was built."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from pal_ds.formats.shardset import Manifest

from ..encoding.clip_filters import ClipFilters
from ..encoding.profiles import PROFILES
from ..errors import UsageError

_ENCODING = ("short_side", "fps", "gop", "crf")
_AS_WRITTEN = ("dedupe", "shard_bytes", "seed", "max_seconds", "min_frames")


def inherit(arguments: argparse.Namespace, manifest: Manifest) -> None:
    """Fill in what was not given: encode, label, split, cut, filter and deal as the set was built.

    ``--limit`` is of one list of inputs, and not taken over.

    Raises:
        UsageError: labels are asked for in a set without any.
    """
    recipe = manifest.recipe
    _inherit_encoding(arguments, recipe)
    if manifest.labels is None and arguments.with_labels:
        raise UsageError("--with-labels: the set was made without labels: leave it out, or build it anew")
    arguments.with_labels = manifest.labels is not None
    if arguments.split is None and not arguments.split_column and arguments.val_fraction is None:
        arguments.split = recipe.get("split")
        arguments.split_column = bool(recipe.get("split_column"))
        arguments.val_fraction = recipe.get("val_fraction")
    filters = recipe.get("filters", {})
    _fill(arguments, recipe, _AS_WRITTEN)
    _fill(arguments, filters, tuple(field.name for field in dataclasses.fields(ClipFilters)))
    if not arguments.keep_recordings and not arguments.keep_labels:
        arguments.keep_recordings = bool(recipe.get("keep_recordings"))
        arguments.keep_labels = bool(recipe.get("keep_labels"))
    _inherit_cutting(arguments, recipe.get("cutting"))


def _fill(arguments: argparse.Namespace, recipe: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(arguments, name) is None:
            setattr(arguments, name, recipe.get(name))


def _inherit_encoding(arguments: argparse.Namespace, recipe: dict[str, Any]) -> None:
    chosen = [arguments.profile, *(getattr(arguments, name) for name in _ENCODING)]
    unchosen = set(chosen) == {None} and not arguments.copy and not arguments.copy_if_conforming
    if unchosen and recipe.get("profile") in PROFILES:
        arguments.profile = recipe["profile"]
        arguments.copy_if_conforming = bool(recipe.get("copy_if_conforming"))
        for name in _ENCODING if not PROFILES[arguments.profile].copy else ():
            setattr(arguments, name, recipe.get(name))


def _inherit_cutting(arguments: argparse.Namespace, cutting: dict[str, Any] | None) -> None:
    """Cut as the set was cut, unless a way of cutting is given; a set with cuts can't be appended to by --copy."""
    if cutting is None or arguments.chunk is not None or arguments.shots:
        return
    arguments.chunk = cutting["chunk"]
    arguments.shots = "shots" in cutting
    if arguments.shots and arguments.shot_threshold is None:
        arguments.shot_threshold = cutting["shots"]["threshold"]
    arguments.inherits_cutting = True
