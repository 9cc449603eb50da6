"""What a build leaves at DEST until it is finished: its plan, and one part for every shard that is done."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset

from ..catalog.rows import BEFORE_CUT, Reject
from ..errors import UsageError
from .unfinished import Part, PlanRecord

log = logging.getLogger(__name__)

FOLDER = "_unfinished"
_PLAN = "plan.json"
_REJECTS = "catalog-rejects.jsonl"
_FILE = r"(?:[A-Za-z0-9_]+-\d{6}\.(?:tar|index\.json)|(?:manifest(?:-\d{6})?|_removal)\.json" + (
    r"|(?:rejects(?:-\d{6})?|removals)\.jsonl)"
)
_OURS = re.compile(rf"{_FILE}|_unfinished")
_TEMPORARY = re.compile(rf"\.{_FILE}\..+")


class Journal:
    """The unfinished state of one DEST.

    Attributes:
        dest: the shard set's folder.
        folder: where the unfinished state lies.
    """

    def __init__(self, dest: str) -> None:
        self.dest = dest
        self.folder = storage.join(dest, FOLDER)

    def names(self, *, leftovers: bool = False) -> list[str]:
        """Return what lies at DEST, with or without the leftovers of interrupted local writes."""
        names = storage.list_names(self.dest, retry=storage.AT_START)
        # Some object stores go on listing a folder whose last object is gone.
        if FOLDER in names and not storage.list_names(self.folder, retry=storage.AT_START):
            names.remove(FOLDER)
        return [name for name in names if leftovers or not _TEMPORARY.fullmatch(name)]

    def check_bucket(self) -> None:
        """Refuse a bucket that does not exist: some stores would make it at the first write.

        Raises:
            UsageError: there is no such bucket.
        """
        storage.check_writable(self.dest)
        scheme, found, rest = self.dest.partition("://")
        if not found or storage.is_local(self.dest):
            return
        bucket = f"{scheme}://{rest.split('/')[0]}"
        try:
            exists = storage.bucket_exists(bucket, retry=storage.AT_START)
        except storage.StorageAccessError:
            # Credentials may be good for the folder alone; the first write tells.
            return
        if not exists:
            raise UsageError(f"DEST {storage.redact(self.dest)}: there is no bucket {bucket}")

    def foreign(self) -> list[str]:
        """Return what lies at DEST and is not of a shard set."""
        return [name for name in self.names() if not _OURS.fullmatch(name)]

    def read_plan(self) -> PlanRecord | None:
        """Return the plan of the build or append under way, or None.

        Raises:
            BuildError: it is damaged.
        """
        try:
            data = storage.read_bytes(storage.join(self.folder, _PLAN), retry=storage.AT_START)
        except storage.StorageNotFoundError:
            return None
        return PlanRecord.from_json(data)

    def write_plan(self, plan: PlanRecord, rejects: Path) -> None:
        """Publish the plan, after what the catalog rejected."""
        storage.make_folder(self.folder)
        storage.upload_file(rejects, storage.join(self.folder, _REJECTS), retry=storage.AT_START)
        storage.write_bytes(storage.join(self.folder, _PLAN), plan.to_json(), retry=storage.AT_START)

    def fetch_catalog_rejects(self, path: Path) -> None:
        """Copy what the catalog rejected to a local file."""
        path.write_bytes(storage.read_bytes(storage.join(self.folder, _REJECTS)))

    def settled(self) -> dict[str, tuple[str, str]]:
        """Return stage and error of the videos that the plan at DEST rejects because they could not be looked into.

        Raises:
            StorageError: DEST can't be read.
        """
        if self.read_plan() is None:
            return {}
        data = storage.read_bytes(storage.join(self.folder, _REJECTS), retry=storage.AT_START)
        rejects = (Reject(**json.loads(line)) for line in data.splitlines())
        return settled_of(rejects)

    def write_part(self, part: Part) -> None:
        """Publish a part: from here on its shard is finished."""
        storage.write_bytes(storage.join(self.folder, _part_name(part.shard)), part.to_json())

    def read_part(self, shard: str) -> Part:
        """Return one shard's part.

        Raises:
            StorageNotFoundError: the shard is not finished.
        """
        return Part.from_json(storage.read_bytes(storage.join(self.folder, _part_name(shard))))

    def finished_shards(self) -> set[str]:
        """Return the names of the shards that have a part."""
        names = storage.list_names(self.folder)
        return {name.removesuffix(".part.json") + ".tar" for name in names if name.endswith(".part.json")}

    def abort_uploads(self, shards: Collection[str] | None = None) -> list[str]:
        """Abort uploads of this set's files that killed builds left unfinished; returns the files' names.

        Args:
            shards: only these shards' uploads, where other tasks may be uploading theirs; None for all.

        Raises:
            StorageError: the store refuses to list or to abort them, or fails.
        """

        def chosen(relative: str) -> bool:
            first = relative.partition("/")[0]
            return bool(_OURS.fullmatch(first)) if shards is None else relative in shards

        return storage.abort_uploads(self.dest, chosen, retry=storage.AT_START)

    def try_to_abort_uploads(self, shards: Collection[str] | None = None) -> None:
        """Abort unfinished uploads; where the store does not let us, say so and go on: they only cost money."""
        try:
            self.abort_uploads(shards)
        except storage.StorageError as error:
            log.warning("unfinished uploads of killed builds could not be looked for: %s", error)

    def remove(self) -> None:
        """Remove the unfinished state and what interrupted writes left behind."""
        self.try_to_abort_uploads()
        # The plan last: parts without one, after a kill, would be nobody's.
        storage.remove_names(self.folder, set(storage.list_names(self.folder)) - {_PLAN})
        storage.remove(self.folder, recursive=True)
        self.remove_temporaries()

    def remove_temporaries(self) -> None:
        """Remove what interrupted writes to a disk left behind; nobody else may be writing."""
        for name in storage.list_names(self.dest):
            if _TEMPORARY.fullmatch(name):
                storage.remove(storage.join(self.dest, name))

    def clear(self) -> None:
        """Remove a whole shard set, finished or not: the manifest first, then what is unfinished, then the rest.

        Raises:
            UsageError: something else lies at DEST too.
        """
        foreign = self.foreign()
        if foreign:
            raise UsageError(
                f"DEST {storage.redact(self.dest)}: holds {_few(foreign)}, which is no part of a shard set"
            )
        storage.remove(storage.join(self.dest, shardset.MANIFEST_NAME))
        # Before the tars: after a kill no plan may say that they are there.
        self.remove()
        storage.remove_names(self.dest, set(self.names()) - {FOLDER})


def settled_of(rejects: Iterable[Reject]) -> dict[str, tuple[str, str]]:
    """Return stage and error, by source, of the rejects that could not be looked into before they were cut."""
    return {each.source: (each.stage, each.error) for each in rejects if each.error.startswith(BEFORE_CUT)}


def clean(dest: str, *, unfinished: bool) -> list[str]:
    """Remove what interrupted builds left at DEST; returns the names.

    Args:
        dest: the shard set's folder.
        unfinished: remove a build that has no manifest yet as a whole.

    Returns:
        What was removed, unfinished uploads as ``NAME (unfinished upload)``.

    Raises:
        UsageError: the build is not finished and ``unfinished`` was not given.
        StorageError: the store refuses or fails.
    """
    journal = Journal(dest)
    before = set(journal.names(leftovers=True))
    if before and shardset.MANIFEST_NAME not in before and not unfinished:
        raise UsageError(
            f"DEST {storage.redact(dest)}: its build is not finished: run it again, or give --unfinished to remove it"
        )
    uploads = [f"{name} (unfinished upload)" for name in journal.abort_uploads()]
    if shardset.MANIFEST_NAME in before:
        journal.remove()
    elif unfinished:
        journal.clear()
    return sorted(before - set(journal.names())) + uploads


def recipe_differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one ``name: old there, new here`` for every field in which two recipes differ."""
    found: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        first, second = old.get(name), new.get(name)
        if isinstance(first, dict) and isinstance(second, dict):
            found += recipe_differences(first, second, f"{prefix}{name}.")
        elif first != second:
            found.append(f"{prefix}{name}: {first!r} there, {second!r} here")
    return found


def _part_name(shard: str) -> str:
    return shard.removesuffix(".tar") + ".part.json"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
