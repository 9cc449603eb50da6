"""What was measured is found again by the next run and by other tasks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pal_ds.ffmpeg import process
from shards.catalog.gather import Catalog, CatalogOptions
from shards.catalog.rows import Row
from shards.errors import Rejected
from shards.measuring.measurements import BATCH, USABLE, Measurements, measure_rows, name_of, rows_of
from shards.progress import Progress

_NUMBERS = itertools.count()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    source = tmp_path / "videos"
    source.mkdir()
    for number in range(BATCH + 40):
        (source / f"v{number:04d}.mp4").write_bytes(b"x" * number)
    made = Catalog(tmp_path / "catalog.sqlite", CatalogOptions(sources=(str(source),)))
    made.gather()
    return made


def store_at(tmp_path: Path, folder: Path | None) -> Measurements:
    return Measurements(tmp_path / f"{next(_NUMBERS)}.sqlite", None if folder is None else str(folder))


def measured(
    catalog: Catalog, store: Measurements, *, share=(0, 1), stop_after: int | None = None
) -> list[str]:
    asked: list[str] = []

    def measure(row: Row) -> int:
        if stop_after is not None and len(asked) >= stop_after:
            raise KeyboardInterrupt
        asked.append(row.source)
        if row.size == 3:
            raise Rejected("probe", "three is no length")
        return row.size or 0

    progress = Progress(0, quiet=True)
    try:
        measure_rows(catalog, USABLE, "size", measure, store, workers=1, share=share, progress=progress)
    except KeyboardInterrupt:
        store.save()
        process.allow_again()
    return asked


def test_every_row_is_measured_once_whatever_the_interruption(catalog, tmp_path) -> None:
    folder = tmp_path / "unfinished"
    first = measured(catalog, store_at(tmp_path, folder), stop_after=100)
    second = measured(catalog, store_at(tmp_path, folder))
    assert len(first) == 100
    assert set(first).isdisjoint(second)
    assert len(first) + len(second) == BATCH + 40
    store = store_at(tmp_path, folder)
    assert measured(catalog, store) == []
    values = [
        store.get("size", name_of(catalog, row)) for batch in rows_of(catalog, USABLE) for _, row in batch
    ]
    assert values[3] == {"stage": "probe", "error": "three is no length"}
    assert values[:3] + values[4:] == [number for number in range(BATCH + 40) if number != 3]


def test_tasks_begin_elsewhere_and_a_later_one_finds_what_the_earlier_published(catalog, tmp_path) -> None:
    folder = tmp_path / "unfinished"
    halves = [measured(catalog, store_at(tmp_path, None), share=(task, 2), stop_after=10) for task in (0, 1)]
    assert set(halves[0]).isdisjoint(halves[1])
    assert len(measured(catalog, store_at(tmp_path, folder), share=(0, 2))) == BATCH + 40
    assert measured(catalog, store_at(tmp_path, folder), share=(1, 2)) == []


def test_a_file_of_another_size_is_measured_anew(catalog, tmp_path) -> None:
    folder = tmp_path / "unfinished"
    measured(catalog, store_at(tmp_path, folder))
    catalog.database.execute("UPDATE inputs SET size = 9999 WHERE id = 5")
    assert measured(catalog, store_at(tmp_path, folder)) == ["v0004.mp4"]
