"""A folder of features: bound to one set of settings, its finished videos, its list of failures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.readouts import Readout
from pal_ds.transfer.extraction.tally import VideoFailure

SETTINGS_NAME = "extract.json"
ERRORS_NAME = "errors.jsonl"


def claim_destination(url: str, settings: dict[str, Any], *, overwrite: bool = False) -> None:
    """Bind a destination to one set of settings, so that it never holds features of two kinds.

    One rank does this before any rank asks for :func:`finished_videos`. With ``overwrite``, features made with
    other settings are deleted first; the settings file goes before them and comes back after them, so that an
    interruption leaves a folder that is refused, not one that looks finished.

    Raises:
        ConfigError: features made with other or unknown settings are there and ``overwrite`` is not given.
        StorageError: it can't be read or written.
    """
    storage.make_folder(url)
    names = set(storage.list_names(url, retry=storage.AT_START))
    target = storage.join(url, SETTINGS_NAME)
    old = sorted(name for name in names if name.startswith("v_") and name.endswith((".npy", ".json")))
    changed = "settings" if old else None
    found: dict[str, Any] = {}
    if SETTINGS_NAME in names:
        try:
            found = dict(json.loads(storage.read_bytes(target)))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                "--out", storage.redact(url), f"its {SETTINGS_NAME} is damaged: {error}"
            ) from error
        names_of_both = [*settings, *(name for name in found if name not in settings)]
        changed = next((name for name in names_of_both if found.get(name) != settings.get(name)), None)
        if changed is None:
            return
    if changed and not overwrite:
        raise ConfigError(
            f"{changed} of --out {storage.redact(url)}",
            settings.get(changed, "not set" if found else "unknown"),
            f"features with {changed}={found.get(changed, 'not set' if found else None)!r} are there; choose another "
            "folder or --overwrite",
        )
    if changed:
        storage.remove(target)
        for name in old:
            storage.remove(storage.join(url, name))
    storage.write_bytes(target, dump_json(settings))


def claim_destinations(url: str, settings: Mapping[str, dict[str, Any]], *, overwrite: bool = False) -> None:
    """Claim the folder of every readout below a destination (see :func:`claim_destination`).

    Args:
        url: the destination.
        settings: by folder below it, as :meth:`ExtractOptions.settings` gives them.
        overwrite: delete features made with other settings.
    """
    for folder, own in settings.items():
        claim_destination(storage.join(url, folder) if folder else url, own, overwrite=overwrite)


def finished_everywhere(url: str, folders: Sequence[str]) -> set[str]:
    """Return the ids that are finished in all of these folders below a destination."""
    found = [finished_videos(storage.join(url, folder) if folder else url) for folder in folders]
    return set.intersection(*found)


def readout_url(url: str, readout: Readout, options: ExtractOptions) -> str:
    """Return where the features of a readout go."""
    folder = options.folder_of(readout)
    return storage.join(url, folder) if folder else url


def finished_videos(url: str) -> set[str]:
    """Return the ids whose array and sidecar both exist in a claimed destination."""
    names = set(storage.list_names(url))
    stems = {name.removesuffix(".json") for name in names if name.startswith("v_") and name.endswith(".json")}
    return {stem.removeprefix("v_") for stem in stems if f"{stem}.npy" in names}


def write_errors(out_url: str, failures: Sequence[VideoFailure]) -> None:
    """Write ``errors.jsonl`` sorted by id, or remove an older one where nothing failed."""
    target = storage.join(out_url, ERRORS_NAME)
    if failures:
        ordered = sorted(failures, key=lambda failure: failure.id)
        lines = [json.dumps(dataclasses.asdict(failure)) for failure in ordered]
        storage.write_bytes(target, ("\n".join(lines) + "\n").encode())
    else:
        storage.remove(target)
