"""Compares what lies at DEST with what is wanted there."""

from __future__ import annotations

from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest

from ..errors import UsageError
from .finish import BuildResult, read_stages, result_of
from .journal import Journal, recipe_differences
from .unfinished import PlanRecord


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
        remove_leftovers(journal, manifest)
        return result_of(journal.dest, manifest, read_stages(journal.dest, manifest))
    if (begun := journal.read_plan()) is not None:
        old = {name: value for name, value in begun.recipe.items() if name != "inputs"}
        refuse_difference(f"{where} was begun with another recipe", old, recipe)
    return None


def begun_append(journal: Journal, manifest: Manifest) -> PlanRecord | None:
    """Return the plan of what is being appended to a finished set; None where nothing is."""
    begun = journal.read_plan()
    # Counted, since the same may be appended again: a recipe alone does not tell one append from the next.
    return begun if begun is not None and begun.appended == len(manifest.appended) else None


def remove_leftovers(journal: Journal, manifest: Manifest) -> None:
    """Remove the unfinished state of what has ended in a generation; that of an append under way stays."""
    begun = journal.read_plan()
    if begun is None or begun.appended is None or begun.appended < len(manifest.appended):
        journal.remove()


def begun_plan(journal: Journal) -> PlanRecord | None:
    """Return the plan at DEST; None where nothing was begun.

    Raises:
        UsageError: shards are said to be finished of which no plan tells.
    """
    begun = journal.read_plan()
    if begun is None and journal.finished_shards():
        # Another task may have begun in between.
        begun = journal.read_plan()
        if begun is None:
            raise UsageError(
                f"DEST {storage.redact(journal.dest)}: holds parts of unfinished work without its plan: remove them "
                "with pal-shard clean --unfinished"
            )
    return begun


def refuse_difference(
    what: str, old: dict[str, Any], new: dict[str, Any], *, fix: str = "use another DEST or --overwrite"
) -> None:
    """Refuse to go on with another recipe.

    Args:
        what: begins the message.
        old: the recipe at DEST.
        new: the recipe that is wanted.
        fix: ends the message.

    Raises:
        UsageError: they differ.
    """
    differences = recipe_differences(old, new)
    if not differences:
        return
    if all(difference.startswith(("inputs.", "videos.")) for difference in differences):
        name = differences[-1].partition(".")[0]
        counts = f"{old[name]['count']} then, {new[name]['count']} now"
        raise UsageError(f"{what}: the inputs have changed ({counts}): {fix}")
    raise UsageError(f"{what} ({'; '.join(differences[:4])}): {fix}")
