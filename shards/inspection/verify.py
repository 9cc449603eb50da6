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

from ..builder.finish import read_rejects
from ..builder.journal import Journal
from ..encoding.decode_check import decode_copy
from ..progress import Progress
from ..tar_members import read_sample

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
    with (
        scratch_folder() as scratch,
        Progress(len(entries), label="shards", quiet=quiet) as progress,
        ThreadPoolExecutor(workers, "verify") as pool,
    ):
        reports: dict[str, _ShardReport] = {}

        def check(entry: ShardEntry) -> None:
            report = _check_shard(dest, entry, scratch, decode=decode)
            reports[entry.name] = report
            progress.clip(entry.bytes)

        list(pool.map(check, entries))
    for entry in entries:
        problems += [f"{entry.name}: {problem}" for problem in reports[entry.name].problems]
    problems += _check_totals(manifest, reports)
    problems += _check_folder(dest, manifest)
    return VerifyResult(
        dest=storage.redact(dest),
        shards=len(entries),
        clips=sum(report.clips for report in reports.values()),
        decoded=sum(report.decoded for report in reports.values()),
        problems=problems,
        notes=[f"{name}: is no part of the set, left alone" for name in Journal(dest).foreign()],
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


def _check_folder(dest: str, manifest: Manifest) -> list[str]:
    expected = {shardset.MANIFEST_NAME, shardset.REJECTS_NAME}
    for split in manifest.splits.values():
        for entry in split.shards:
            expected |= {entry.name, shardset.index_name(entry.name)}
    journal = Journal(dest)
    # Only what is named like a part of a set can be taken for one.
    unexpected = set(journal.names()) - expected - set(journal.foreign())
    problems = [f"{name}: is no part of the set" for name in sorted(unexpected)]
    try:
        rejects = list(read_rejects(dest, manifest))
    except storage.StorageNotFoundError:
        return [*problems, f"{shardset.REJECTS_NAME}: missing"]
    except ShardSetError as error:
        return [*problems, str(error)]
    if len(rejects) != manifest.rejected:
        problems.append(
            f"{shardset.REJECTS_NAME}: {len(rejects)} lines, the manifest says {manifest.rejected}"
        )
    return problems


def _check_shard(dest: str, entry: ShardEntry, scratch: Path, *, decode: bool) -> _ShardReport:
    report = _ShardReport()
    try:
        index = shardset.load_index(dest, entry.name)
        path, is_copy = _local_copy(dest, entry, scratch, report)
    except storage.StorageNotFoundError as error:
        report.problems.append(f"missing: {Path(error.url).name}")
        return report
    except ShardSetError as error:
        report.problems.append(str(error))
        return report
    try:
        _check_tar(path, entry, index, report, scratch if decode else None)
    except (tarfile.TarError, ShardSetError, ValueError) as error:
        report.problems.append(f"not readable as a tar: {error}")
    finally:
        if is_copy:
            path.unlink(missing_ok=True)
    return report


def _local_copy(dest: str, entry: ShardEntry, scratch: Path, report: _ShardReport) -> tuple[Path, bool]:
    """Read a shard once, hashing it; remote ones are put on scratch disk."""
    url = storage.join(dest, entry.name)
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
    if size != entry.bytes:
        report.problems.append(f"{size} bytes, the manifest says {entry.bytes}")
    if hasher.hexdigest() != entry.sha256:
        report.problems.append("its SHA-256 is not the manifest's")
    return path, not local


def _check_tar(
    path: Path, entry: ShardEntry, index: ShardIndex, report: _ShardReport, decode_in: Path | None
) -> None:
    """Compare index and tar sample by sample: each must be found whole in its own byte range."""
    if len(index.samples) != entry.clips:
        report.problems.append(f"{len(index.samples)} samples in the index, the manifest says {entry.clips}")
    with tarfile.open(path) as tar:
        members = [(member.offset, member.name) for member in tar]
    in_tar = {name.split(".", 1)[0] for _, name in members}
    in_index = {sample.key for sample in index.samples}
    if len(members) != 2 * len(in_tar):
        report.problems.append(f"{len(members)} members for {len(in_tar)} samples")
    if in_tar != in_index:
        report.problems.append(f"{len(in_tar ^ in_index)} keys are only in the tar or only in the index")
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
        found = read_sample(data)
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
