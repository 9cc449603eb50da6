"""The folder of the results: bound to one model, a few files for each video, and what sums them up.

A video's record is written after its other files: a video with a record is finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.extraction.video_source import VideoRef
from pal_ds.transfer.localize.index_page import index_page
from pal_ds.transfer.localize.record import Record, RecordError, official
from pal_ds.transfer.localize.text_files import table

SETTINGS_NAME = "localize.json"
#: Holds the files of every video, named by its id.
FOLDER = "actions"
RESULTS_NAME, TABLE_NAME, INDEX_NAME = "results.json", "actions.csv", "index.html"
_KINDS = (".json", ".vtt", ".csv", ".html")
_READERS = 16


def claim(out_url: str, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Bind a destination to one model and set of options, so that it never holds results of two kinds.

    With ``overwrite`` what was written with other ones is deleted first; nothing else in the folder is touched.

    Raises:
        ConfigError: results made with others are there and ``overwrite`` is not given.
        StorageError: it can't be read or written.
    """
    storage.make_folder(storage.join(out_url, FOLDER))
    target = storage.join(out_url, SETTINGS_NAME)
    place = storage.redact(out_url)
    if SETTINGS_NAME in storage.list_names(out_url, retry=storage.AT_START):
        try:
            found = dict(json.loads(storage.read_bytes(target)))
        except (ValueError, TypeError) as error:
            raise ConfigError("--out", place, f"its {SETTINGS_NAME} is damaged: {error}") from error
        changed = next((name for name in settings if found.get(name) != settings[name]), None)
        if changed is not None and not overwrite:
            raise ConfigError(
                f"{changed} of --out {place}",
                settings[changed],
                f"results with {changed}={found.get(changed)!r} are there; choose another folder or --overwrite",
            )
    if overwrite:
        for record in records(out_url):
            _forget(out_url, record)
    storage.write_bytes(target, dump_json(settings))


def finished(out_url: str, videos: Sequence[VideoRef]) -> set[str]:
    """Return the ids of those ``videos`` that have a record.

    Raises:
        ConfigError: a record of that id is about another file.
    """
    there = {name for name in _names(out_url) if name.endswith(".json")}
    mine = [video for video in videos if f"{video.id}.json" in there]
    found = dict(zip((video.id for video in mine), _read(out_url, [v.id for v in mine]), strict=True))
    for video in mine:
        record = found[video.id]
        if record is not None and record.file_bytes != video.bytes:
            raise ConfigError(
                f"{video.source} in --out {storage.redact(out_url)}",
                f"{video.bytes} bytes",
                f"another video of this name ({record.source}, {record.file_bytes} bytes) is localized there; choose "
                "another folder, rename it, or --overwrite",
            )
    return {name for name, record in found.items() if record is not None}


def records(out_url: str) -> Iterator[Record]:
    """Yield the records of a destination in order of id; damaged ones count as absent."""
    ids = sorted(name.removesuffix(".json") for name in _names(out_url) if name.endswith(".json"))
    yield from (record for record in _read(out_url, ids) if record is not None)


def place_of(out_url: str, name: str) -> str:
    """Return where a file of a video lies."""
    return storage.join(out_url, FOLDER, name)


def write_text(url: str, text: str) -> None:
    """Write a text file; what UTF-8 can't hold (names of files in no encoding) is escaped."""
    storage.write_bytes(url, text.encode("utf-8", "backslashreplace"))


def sum_up(out_url: str, failures: Sequence[VideoFailure], *, pages: bool) -> list[Record]:
    """Write the files about all videos, and return the records.

    Raises:
        StorageError: they can't be written.
    """
    everything = list(records(out_url))
    storage.write_bytes(storage.join(out_url, RESULTS_NAME), dump_json(official(everything)))
    write_text(storage.join(out_url, TABLE_NAME), table(everything))
    if pages:
        write_text(storage.join(out_url, INDEX_NAME), index_page(everything, failures, folder=FOLDER))
    return everything


def _forget(out_url: str, record: Record) -> None:
    # The record goes first: what is left by an interruption then counts as unfinished.
    for kind in (*_KINDS, *([record.film] if record.film else [])):
        storage.remove(place_of(out_url, f"{record.id}{kind}"))


def _names(out_url: str) -> list[str]:
    return storage.list_names(storage.join(out_url, FOLDER))


def _read(out_url: str, ids: Iterable[str]) -> list[Record | None]:
    def one(name: str) -> Record | None:
        try:
            return Record.from_json(storage.read_bytes(place_of(out_url, f"{name}.json")))
        except RecordError:
            return None

    with ThreadPoolExecutor(_READERS, thread_name_prefix="record") as pool:
        return list(pool.map(one, ids))
