"""``pal-shard verify``: reads a finished set again and checks that its parts agree."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import Manifest, SampleEntry, SampleRecord, ShardEntry, ShardIndex, ShardSetError
from pal_ds.storage.scratch import scratch_folder

from ..encoding.decode_check import decode_copy
from ..lifecycle.audit import read_removals
from ..progress import Progress
from ..tar_members import read_sample
from .verify_folder import check_folder

_DECODE_TIMEOUT = 600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What a verification found.

    Attributes:
        dest: the shard set's folder.
        shards: shards read.
        clips: clips read.
        decoded: clips decoded to their ends.
        problems: one line each; empty where the set is sound.
        notes: one line each for what lies beside the set and isn't part of it: other tools' files do no harm.
    """

    dest: str
    shards: int
    clips: int
    decoded: int
    problems: list[str]
    notes: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {**dataclasses.asdict(self), "sound": not self.problems}


@dataclasses.dataclass
class _ShardReport:
    clips: int = 0
    frames: int = 0
    seconds: float = 0.0
    decoded: int = 0
    keys: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def verify(dest: str, *, decode: bool = False, workers: int = 1, quiet: bool = False) -> VerifyResult:
    """Check checksums, indexes against tars, counts, and with ``decode`` every clip's frames.

    Raises:
        ShardSetError: there is no finished set at ``dest``.
        StorageError: it can't be read.
    """
    manifest = shardset.load_manifest(dest)
    problems: list[str] = []
    entries = [entry for split in manifest.splits.values() for entry in split.shards]
    removed = frozenset(read_removals(dest)) if manifest.removed else frozenset()
    with (
        scratch_folder() as scratch,
        Progress(len(entries), label="shards", quiet=quiet) as progress,
        ThreadPoolExecutor(workers, "verify") as pool,
    ):
        reports: dict[str, _ShardReport] = {}

        def check(entry: ShardEntry) -> None:
            report = _check_shard(dest, entry, scratch, removed, decode=decode)
            reports[entry.name] = report
            progress.clip(entry.bytes)

        list(pool.map(check, entries))
    for entry in entries:
        problems += [f"{entry.name}: {problem}" for problem in reports[entry.name].problems]
    problems += _check_totals(manifest, reports)
    folder_problems, notes = check_folder(dest, manifest)
    problems += folder_problems
    return VerifyResult(
        dest=storage.redact(dest),
        shards=len(entries),
        clips=sum(report.clips for report in reports.values()),
        decoded=sum(report.decoded for report in reports.values()),
        problems=problems,
        notes=notes,
    )


def _check_totals(manifest: Manifest, reports: dict[str, _ShardReport]) -> list[str]:
    problems = []
    seen: dict[str, str] = {}
    for name, split in manifest.splits.items():
        mine = [reports[entry.name] for entry in split.shards]
        for field, found in (
            ("clips", sum(report.clips for report in mine)),
            ("frames", sum(report.frames for report in mine)),
            ("bytes", sum(entry.bytes for entry in split.shards)),
        ):
            if getattr(split, field) != found:
                problems.append(
                    f"split {name}: the manifest says {getattr(split, field)} {field}, found {found}"
                )
        seconds = math.fsum(report.seconds for report in mine)
        if not math.isclose(seconds, split.seconds, abs_tol=1e-3, rel_tol=1e-6):
            problems.append(f"split {name}: the manifest says {split.seconds} seconds, found {seconds:.6f}")
        for entry in split.shards:
            for key in reports[entry.name].keys:
                if key in seen:
                    problems.append(f"key {key} is in {seen[key]} and {entry.name}")
                seen[key] = entry.name
    return problems


def _check_shard(
    dest: str, entry: ShardEntry, scratch: Path, removed: frozenset[str], *, decode: bool
) -> _ShardReport:
    report = _ShardReport()
    try:
        index = shardset.load_index(dest, entry.name)
        if index.url != entry.url:
            report.problems.append("index and manifest name different tars")
            return report
        path, is_copy = _local_copy(dest, entry, scratch, report)
    except storage.StorageNotFoundError as error:
        name = error.url if entry.is_adopted and error.url.endswith(".tar") else Path(error.url).name
        report.problems.append(f"missing: {name}")
        return report
    except ShardSetError as error:
        report.problems.append(str(error))
        return report
    try:
        if not entry.is_adopted:
            _check_members(path, entry, index, report, removed)
        _check_samples(path, entry, index, report, scratch if decode else None)
    except (tarfile.TarError, ShardSetError, ValueError) as error:
        report.problems.append(f"not readable as a tar: {error}")
    finally:
        if is_copy:
            path.unlink(missing_ok=True)
    return report


def _local_copy(dest: str, entry: ShardEntry, scratch: Path, report: _ShardReport) -> tuple[Path, bool]:
    """Read a shard once, hashing it; remote ones are put on scratch disk."""
    url = shardset.tar_url(dest, entry.name, entry.url)
    local = storage.is_local(url)
    path = storage.local_path(url) if local else scratch / entry.name
    size = storage.size(url)
    hasher = hashlib.sha256()
    with open(path, "rb" if local else "wb") as file:  # noqa: PTH123  one of two modes
        for start in range(0, size, storage.PIECE_BYTES):
            end = min(size, start + storage.PIECE_BYTES)
            data = file.read(end - start) if local else storage.read_range(url, start, end)
            if not local:
                file.write(data)
            hasher.update(data)
    since = f": {storage.redact(url)} has changed since it was adopted" if entry.is_adopted else ""
    if size != entry.bytes:
        report.problems.append(f"{size} bytes, the manifest says {entry.bytes}{since}")
    if hasher.hexdigest() != entry.sha256:
        report.problems.append(f"its SHA-256 is not the manifest's{since}")
    return path, not local


def _check_members(
    path: Path, entry: ShardEntry, index: ShardIndex, report: _ShardReport, removed: frozenset[str]
) -> None:
    """Compare the names in a tar of ours with its index: nothing but clips that were taken down may be left out."""
    with tarfile.open(path) as tar:
        members = [(member.offset, member.name) for member in tar]
    in_tar = {name.split(".", 1)[0] for _, name in members}
    in_index = {sample.key for sample in index.samples}
    if len(members) != 2 * len(in_tar):
        report.problems.append(f"{len(members)} members for {len(in_tar)} samples")
    if entry.url is not None:
        in_tar -= removed
    if in_tar != in_index:
        report.problems.append(f"{len(in_tar ^ in_index)} keys are only in the tar or only in the index")


def _check_samples(
    path: Path, entry: ShardEntry, index: ShardIndex, report: _ShardReport, decode_in: Path | None
) -> None:
    """Compare index and tar sample by sample: each must be found whole in its own byte range."""
    if len(index.samples) != entry.clips:
        report.problems.append(f"{len(index.samples)} samples in the index, the manifest says {entry.clips}")
    with path.open("rb") as file:
        for sample in index.samples:
            file.seek(sample.offset)
            problem = _check_sample(file.read(sample.size), sample, report, decode_in)
            if problem:
                report.problems.append(f"sample {sample.key}: {problem}")


def _check_sample(
    data: bytes, sample: SampleEntry, report: _ShardReport, decode_in: Path | None
) -> str | None:
    try:
        found = read_sample(data, sample)
    except ShardSetError as error:
        return f"the index points elsewhere: {error}"
    if len(data) != sample.size or found.key != sample.key:
        return "the index points elsewhere"
    record, video = found.record, found.video
    report.clips += 1
    report.frames += record.frames
    report.seconds += record.duration
    report.keys.append(sample.key)
    if record.key != sample.key or record.frames != sample.frames or record.fps != sample.fps:
        return "index and record differ"
    if len(video) != record.bytes or hashlib.sha256(video).hexdigest() != record.sha256:
        return "the video's bytes are not those of its record"
    if decode_in is None:
        return None
    report.decoded += 1
    return _check_frames(video, found.video_extension, record, decode_in)


def _check_frames(video: bytes, extension: str, record: SampleRecord, folder: Path) -> str | None:
    path = folder / f"{record.key}.{extension}"
    path.write_bytes(video)
    try:
        decoded = decode_copy(path, timeout=_DECODE_TIMEOUT)
    finally:
        path.unlink(missing_ok=True)
    if isinstance(decoded, str):
        return decoded
    frames, width, height, _ = decoded
    if frames != record.frames:
        return f"{frames} frames decode, the record says {record.frames}"
    if (width, height) != (record.width, record.height):
        return f"{width}x{height} pixels decode, the record says {record.width}x{record.height}"
    return None
