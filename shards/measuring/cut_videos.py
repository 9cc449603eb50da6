"""``--chunk`` and ``--shots``: turns the catalog's whole videos into rows of their pieces, before the plan."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from ..catalog.csv_tables import span_name
from ..catalog.database import INSERT, encode, values_of
from ..catalog.gather import Catalog
from ..catalog.origins import Origins
from ..catalog.rows import BEFORE_CUT, CUT, Row
from ..encoding import ffmpeg_info
from ..errors import Rejected, UsageError
from ..progress import Progress
from .cuts import CutOptions, spans_of
from .measurements import USABLE, Measurements, measure_rows, name_of, rows_of
from .shots import detector_identity, find_shots

#: Stage and error by source.
Settled: TypeAlias = Mapping[str, tuple[str, str]]
#: What is cut: files of which no span was named.
_WHOLE = f"{USABLE} AND start IS NULL AND offset < 0"


def check_something_to_cut(catalog: Catalog, options: CutOptions) -> None:
    """Refuse rules that have no effect.

    Raises:
        UsageError: there is nothing to cut.
    """
    query = f"SELECT count(*) FROM inputs WHERE {_WHOLE}"  # noqa: S608
    if options.wanted and not options.is_inherited and not catalog.database.execute(query).fetchone()[0]:
        name = "--shots" if options.shots else "--chunk"
        raise UsageError(
            f"{name} has no effect: no input is a whole video (rows with a span and shard sets are not cut)"
        )


def cutting_recipe(options: CutOptions) -> dict[str, Any]:
    """Return what decides the spans, beside the videos.

    Raises:
        UsageError: PySceneDetect is missing.
    """
    recipe: dict[str, Any] = {"chunk": options.chunk}
    if options.shots:
        recipe["shots"] = detector_identity(options.shot_threshold)
    return recipe


def cut_videos(
    catalog: Catalog,
    options: CutOptions,
    store: Measurements,
    scratch: Path,
    *,
    timeout: float,
    workers: int,
    share: tuple[int, int],
    quiet: bool,
    settled: Settled = MappingProxyType({}),
) -> None:
    """Replace every whole video of the catalog by its pieces; a video that is one piece stays as it is.

    A failure that may pass (a timeout, a killed tool) is a reject of this run's plan; a run that finds no plan looks
    again.

    Args:
        catalog: the inputs.
        options: the rules.
        store: where what is found is kept.
        scratch: folder for remote videos.
        timeout: seconds that a tool may take for a video.
        workers: videos at a time.
        share: this task's number and the number of tasks.
        quiet: no progress on stderr.
        settled: stage and error of videos that are rejects in any case.

    Raises:
        StorageError: a store fails beyond its budget.
    """
    kind = "duration"
    if options.shots:
        kind = f"shots {sorted(detector_identity(options.shot_threshold).items())}"
    origins = Origins(catalog.roots)

    def measure(row: Row) -> dict[str, Any]:
        if row.source in settled:
            raise Rejected(*settled[row.source])
        with origins.open(row, scratch) as fetched:
            if options.shots:
                duration, shots = find_shots(fetched.path, threshold=options.shot_threshold, timeout=timeout)
                return {"duration": duration, "shots": shots}
            duration = ffmpeg_info.probe(fetched.path, timeout=timeout).duration
        if duration <= 0:
            raise Rejected("probe", "its container tells no length to cut by: remux it with ffmpeg -c copy")
        return {"duration": duration, "shots": []}

    count = catalog.database.execute(f"SELECT count(*) FROM inputs WHERE {_WHOLE}").fetchone()[0]  # noqa: S608
    with Progress(count, label="videos", quiet=quiet) as progress:
        measure_rows(
            catalog,
            _WHOLE,
            kind,
            measure,
            store,
            workers=workers,
            share=share,
            progress=progress,
            keep_transient=False,
        )
    catalog.database.execute("BEGIN")
    key = catalog.options.seed.to_bytes(16, "little", signed=True)
    for batch in rows_of(catalog, _WHOLE):
        for number, row in batch:
            value = store.get(kind, name_of(catalog, row))
            if row.source in settled or "error" in value:
                stage, error = settled.get(row.source) or (value["stage"], BEFORE_CUT + value["error"])
                update = "UPDATE inputs SET stage = ?, error = ? WHERE id = ?"
                catalog.database.execute(update, (stage, error, number))
                continue
            pieces = list(_pieces(row, value, options))
            if len(pieces) > 1:
                catalog.database.execute("DELETE FROM inputs WHERE id = ?", (number,))
                catalog.database.execute("INSERT OR IGNORE INTO cut VALUES (?)", (encode(row.source),))
                together = catalog.options.keep_recordings
                catalog.database.executemany(
                    INSERT,
                    (values_of((piece, None, None), key, keep_recordings=together) for piece in pieces),
                )
    catalog.mark_duplicates()
    catalog.database.execute("COMMIT")


def _pieces(row: Row, value: dict[str, Any], options: CutOptions) -> Iterator[Row]:
    for start, end in spans_of(value["duration"], value["shots"], options):
        source = f"{row.source}#t={span_name(start, end)}"
        yield dataclasses.replace(row, source=source, start=start, end=end, span=CUT)


def digest_of(catalog: Catalog) -> str:
    """Return a hash of all inputs as they are now."""
    hasher = hashlib.sha256()
    columns = 'key, source, location, size, start, "end", span, label, stage, error'
    for line in catalog.database.execute(f"SELECT {columns} FROM inputs ORDER BY key, source, id"):  # noqa: S608
        hasher.update(repr(line).encode() + b"\n")
    return hasher.hexdigest()
