"""Compares what lies at DEST with what is wanted there."""

from __future__ import annotations

from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest

from ..errors import UsageError
from .finish import BuildResult, read_stages, result_of
from .journal import Journal, PlanRecord, recipe_differences


def compared_early(journal: Journal, recipe: dict[str, Any]) -> BuildResult | None:
    """Compare DEST with what is wanted before videos are looked into; returns the result of a finished set.

    Args:
        journal: of DEST.
        recipe: what is wanted, without ``inputs``.

    Raises:
        UsageError: another recipe is there.
    """
    where = f"DEST {storage.redact(journal.dest)}"
    if shardset.MANIFEST_NAME in journal.names():
        manifest = shardset.load_manifest(journal.dest)
        old = {name: value for name, value in manifest.recipe.items() if name != "inputs"}
        refuse_difference(f"{where} is finished with another recipe", old, recipe)
        if begun_append(journal, manifest) is None:
            journal.remove()
        return result_of(journal.dest, manifest, read_stages(journal.dest, manifest))
    if (begun := journal.read_plan()) is not None:
        old = {name: value for name, value in begun.recipe.items() if name != "inputs"}
        refuse_difference(f"{where} was begun with another recipe", old, recipe)
    return None


def begun_append(journal: Journal, manifest: Manifest) -> PlanRecord | None:
    """Return the plan of what is being appended to a finished set; None where nothing is."""
    begun = journal.read_plan()
    return begun if begun is not None and begun.recipe != manifest.recipe else None


def refuse_difference(what: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on with another recipe.

    Args:
        what: begins the message.
        old: the recipe at DEST.
        new: the recipe that is wanted.

    Raises:
        UsageError: they differ.
    """
    differences = recipe_differences(old, new)
    if not differences:
        return
    if all(difference.startswith(("inputs.", "videos.")) for difference in differences):
        name = differences[-1].partition(".")[0]
        counts = f"{old[name]['count']} then, {new[name]['count']} now"
        raise UsageError(f"{what}: the inputs have changed ({counts}): use another DEST or --overwrite")
    raise UsageError(f"{what} ({'; '.join(differences[:4])}): use another DEST or --overwrite")
