"""Gathers every input of a build into a database on scratch disk, whatever their number.

Memory stays flat: rows go straight into SQLite, which also joins tables with the files that are there, finds
duplicates and does the global shuffle by sorting on a keyed hash.
"""

from __future__ import annotations

import collections
import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.recording import recording_of

from ..errors import UsageError
from ..foreign_tars.label_member import LabelMember
from ..foreign_tars.video_member import VideoMember
from ..tar_members import read_sample
from .csv_tables import Table, TableRow, clip_name, is_table, open_table
from .database import INSERT, SCHEMA, decode, encode, values_of, with_large_cache
from .listing import ListingNotes, list_videos
from .rows import AUTO, CUT, WHOLE, Reject, Row, stem_of
from .tar_rows import tar_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogOptions:
    """What the catalog needs to know.

    Attributes:
        sources: folders, URL prefixes, CSVs or shard sets, in the user's order.
        video_root: where a CSV's videos lie; None for the CSV's own folder.
        seed: of the global shuffle.
        with_labels: clips carry their class names.
        read_records: read the records of shard sets to know the source videos that their clips were cut from.
        sets_only: a SOURCE that is no shard set is refused (``reshard``).
        keep_recordings: clips of one recording stay together in the shuffle.
        videos: how videos are named in tars that are SOURCES; None for any ending of a video file, and tars beside
            videos are passed over.
        labels: which member of a tar's samples tells their class.
        keep_labels: clips of one label stay together in the shuffle, four at a time.
    """

    sources: Sequence[str]
    video_root: str | None = None
    seed: int = 0
    with_labels: bool = False
    read_records: bool = False
    sets_only: bool = False
    keep_recordings: bool = False
    videos: VideoMember | None = None
    labels: LabelMember | None = None
    keep_labels: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    relative: str
    size: int
    error: str | None
    span: str


_UNKNOWN = object()


class Catalog:
    """All inputs of a build, in a database file.

    Attributes:
        database: connection to the tables ``inputs`` and ``files``.
        roots: the roots that rows refer to by number.
        notes: what the listings passed over.
        tar_folders: where adopted tars lie that SOURCES which are shard sets point at.
    """

    def __init__(self, path: Path, options: CatalogOptions) -> None:
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.database.executescript(SCHEMA)
        self.options = options
        self.roots: list[str] = []
        self.notes = ListingNotes()
        self.tar_folders: set[str] = set()
        self._listed: set[int] = set()
        self._recent: dict[tuple[int, str, str], _Found | None] = {}

    def gather(self) -> None:
        """Read every SOURCE, then mark duplicates.

        Raises:
            UsageError: a SOURCE can't be read or understood, or holds no input at all.
            StorageAccessError: a store refuses.
        """
        key = self.options.seed.to_bytes(16, "little", signed=True)
        together = self.options.keep_recordings
        self.database.execute("BEGIN")
        before = 0
        for source in self.options.sources:
            seen = collections.Counter(self.notes.endings)
            items = with_large_cache(self.database, self._inputs(source))
            self.database.executemany(
                INSERT, (values_of(item, key, keep_recordings=together) for item in items)
            )
            passed = self.notes.endings - seen
            if self.count() == before and self._only_tars(source, passed):
                self.notes.take_back(".tar", passed[".tar"])
                items = with_large_cache(self.database, self._tars(source))
                self.database.executemany(
                    INSERT, (values_of(item, key, keep_recordings=together) for item in items)
                )
            if (now := self.count()) == before:
                raise UsageError(_nothing_in(source, passed))
            before = now
        self.database.execute("CREATE INDEX by_key ON inputs (key)")
        self.mark_duplicates()
        self.database.execute("COMMIT")

    def count(self) -> int:
        """Return the number of inputs, usable or not."""
        return int(self.database.execute("SELECT count(*) FROM inputs").fetchone()[0])

    def was_cut(self, source: str) -> bool:
        """Tell whether a video was an input and is several now."""
        query = "SELECT EXISTS (SELECT 1 FROM cut WHERE source = ?)"
        return bool(self.database.execute(query, (encode(source),)).fetchone()[0])

    def rejects(self) -> Iterator[Reject]:
        """Yield the inputs that the catalog itself rejects, sorted by source."""
        query = "SELECT source, stage, error FROM inputs WHERE stage IS NOT NULL ORDER BY source, stage, error, id"
        for source, stage, error in self.database.execute(query):
            yield Reject(decode(source), stage, error)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _inputs(self, source: str) -> Iterator[tuple[Row, str | None, str | None]]:
        if _is_shard_set(source):
            return self._shard_set(source)
        if self.options.sets_only:
            raise UsageError(
                f"SOURCE {storage.redact(source)}: is no shard set (no {shardset.MANIFEST_NAME} in it): "
                "give the folder of a finished set, or use build"
            )
        if source.endswith(".tar") or (self.options.videos is not None and not is_table(source)):
            return self._tars(source)
        if is_table(source):
            return self._table(open_table(source))
        return self._folder(source)

    def _only_tars(self, source: str, endings: collections.Counter[str]) -> bool:
        """Tell whether a SOURCE that has no video has tars instead."""
        return bool(endings[".tar"]) and not is_table(source)

    def _tars(self, source: str) -> Iterator[tuple[Row, str | None, str | None]]:
        options = self.options
        if options.with_labels and options.labels is None:
            raise UsageError(
                f"SOURCE {storage.redact(source)}: --with-labels needs --label-member for tars, as cls or json:label"
            )
        return tar_rows(source, options.videos or VideoMember(), options.labels, self._root)

    def _root(self, url: str) -> int:
        if url not in self.roots:
            self.roots.append(url)
        return self.roots.index(url)

    def _folder(self, url: str) -> Iterator[tuple[Row, str | None, str | None]]:
        root = self._root(url)
        for file in list_videos(url, self.notes):
            label, stage, error = None, None, None
            parent = PurePosixPath(file.relative).parent.name
            if self.options.with_labels:
                label = parent or None
            row = Row(
                source=file.relative,
                root=root,
                location=file.relative,
                size=file.size,
                label=label,
                group=recording_of(file.relative),
            )
            if file.error:
                stage, error = "read", file.error
            elif self.options.with_labels and label is None:
                stage, error = "label", "no class folder above it, and --with-labels was given"
            yield row, stage, error

    def _table(self, table: Table) -> Iterator[tuple[Row, str | None, str | None]]:
        root_url = self.options.video_root or _parent(table.url)
        root = self._root(root_url)
        if root not in self._listed:
            self._listed.add(root)
            self.database.executemany(
                "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?)",
                (
                    (
                        root,
                        encode(stem_of(file.relative)),
                        encode(file.relative),
                        file.size,
                        file.error,
                    )
                    for file in with_large_cache(self.database, list_videos(root_url, self.notes))
                ),
            )
        for line in table.rows():
            yield self._resolved(table, root, line)

    def _resolved(self, table: Table, root: int, line: TableRow) -> tuple[Row, str | None, str | None]:
        """Find the file of one line; where there is none the line is an input of stage ``missing``."""
        found: _Found | None = None
        stage, error = None, line.error
        if error:
            stage = "catalog"
        elif self.options.with_labels and not line.label:
            stage, error = "label", "no label in its row, and --with-labels was given"
        else:
            find = self._kinetics_file if table.kinetics else self._plain_file
            found = find(root, line)
            if found is None:
                what = f"{line.video}.*" if table.kinetics else line.video
                stage, error = "missing", f"no file {what} below --video-root"
            elif found.error:
                stage, error = "read", found.error
        row = Row(
            source=line.identity,
            root=root,
            location=found.relative if found else "",
            size=found.size if found else None,
            start=line.start,
            end=line.end,
            span=found.span if found else WHOLE,
            label=line.label,
            group=line.video,
            split=line.split,
        )
        return row, stage, error

    def _kinetics_file(self, root: int, line: TableRow) -> _Found | None:
        assert line.start is not None and line.end is not None
        for stem, span in ((clip_name(line.video, line.start, line.end), WHOLE), (line.video, AUTO)):
            query = "SELECT relative, size, error FROM files WHERE root = ? AND stem = ? ORDER BY relative"
            files = self.database.execute(query, (root, encode(stem))).fetchall()
            if files:
                # A folder named like the class is the better hit where a name exists twice.
                label = encode((line.label or "").replace(" ", "_"))
                files.sort(key=lambda file: label not in file[0].replace(b" ", b"_").split(b"/")[:-1])
                return _Found(decode(files[0][0]), files[0][1], files[0][2], span)
        return None

    def _plain_file(self, root: int, line: TableRow) -> _Found | None:
        span = WHOLE if line.start is None else CUT
        known = self._recent.get((root, line.video, span), _UNKNOWN)
        if known is not _UNKNOWN:
            return known  # type: ignore[return-value]
        relative = line.video.removeprefix("./").removeprefix(self.roots[root].rstrip("/") + "/")
        query = "SELECT size, error FROM files WHERE root = ? AND stem = ? AND relative = ?"
        row = self.database.execute(query, (root, encode(stem_of(relative)), encode(relative))).fetchone()
        found = None if row is None else _Found(relative, row[0], row[1], span)
        if len(self._recent) > 4_000:
            self._recent.clear()
        self._recent[root, line.video, span] = found
        return found

    def _shard_set(self, url: str) -> Iterator[tuple[Row, str | None, str | None]]:
        root = self._root(url)
        manifest = shardset.load_manifest(url)
        if self.options.with_labels and manifest.labels is None:
            raise UsageError(
                f"SOURCE {storage.redact(url)}: was made without labels, and --with-labels was given"
            )
        for split, entry in sorted(manifest.splits.items()):
            for shard in entry.shards:
                if shard.is_adopted:
                    self.tar_folders.add(str(shard.url).rpartition("/")[0])
                index = shardset.load_index(url, shard.name)
                for sample in index.samples:
                    row = Row(
                        source=sample.key,
                        root=root,
                        location=shard.name,
                        size=sample.size,
                        group=sample.key,
                        offset=sample.offset,
                        split=split,
                    )
                    if self.options.read_records:
                        end = sample.offset + sample.size
                        data = storage.read_range(index.tar(url), sample.offset, end)
                        source = read_sample(data, sample).record.source
                        row = dataclasses.replace(row, group=recording_of(source))
                    yield row, None, None

    def mark_duplicates(self) -> None:
        """Reject all but the first of the inputs that share an identity."""
        self.database.execute(
            """UPDATE inputs SET stage = 'duplicate', error = 'the same identity as another input'
               WHERE id IN (SELECT id FROM (
                   SELECT id, row_number() OVER (PARTITION BY key ORDER BY source, root, location, id) AS place
                   FROM inputs WHERE stage IS NULL AND key IN (
                       SELECT key FROM inputs GROUP BY key HAVING count(*) > 1)) WHERE place > 1)"""
        )


def _nothing_in(source: str, endings: collections.Counter[str]) -> str:
    """Say what was seen where no input was found."""
    where = f"SOURCE {storage.redact(source)}"
    if is_table(source):
        return f"{where}: has a header and no row: give a table with a row for every clip"
    if _is_shard_set(source):
        return f"{where}: is a shard set without a clip: build it anew"
    seen = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
    fix = "give a folder of videos, a .csv of clips, tars or a shard set"
    return f"{where}: no video in it (files seen: {seen or 'none'}): {fix}"


def _is_shard_set(url: str) -> bool:
    return storage.exists(storage.join(url, shardset.MANIFEST_NAME), retry=storage.AT_START)


def _parent(url: str) -> str:
    head, _, _ = url.rstrip("/").rpartition("/")
    return head or ("/" if url.startswith("/") else ".")
