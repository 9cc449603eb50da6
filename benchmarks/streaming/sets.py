"""The shard sets of the benchmark: the same clips made for fast decoding, and as a user's encoder leaves them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

from pal_ds import storage
from pal_ds.formats import shardset
from pal_ds.formats.shardset import (
    Manifest,
    SampleEntry,
    SampleRecord,
    ShardEntry,
    ShardIndex,
    SplitEntry,
    index_name,
    sample_key,
    shard_name,
)
from pal_ds.formats.tar_samples import split_samples

SOURCE = "testsrc2=s=454x256:r=30:d=10,hue=h={hue},noise=alls=12:allf=t"
DISTINCT = 8
#: Clips of a shard of a multiplied set: about 64 MB, as pal-shard makes them of a large corpus.
SHARD_CLIPS = 256


def default_videos(folder: Path) -> Path:
    """Encode a few noisy 10 s clips by x264's defaults at short side 256, as most data sets are handed around."""
    folder.mkdir(parents=True)
    for number in range(DISTINCT):
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", SOURCE.format(hue=number * 40)]
        command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", str(folder / f"clip{number:04d}.mp4")]
        subprocess.run(command, check=True)
    return folder


def as_default(videos: Path, folder: Path) -> Path:
    """Encode a user's own videos by x264's defaults at short side 256."""
    folder.mkdir(parents=True)
    scale = "scale='if(gt(iw,ih),-2,256)':'if(gt(iw,ih),256,-2)'"
    for path in sorted(path for path in videos.iterdir() if path.is_file())[:DISTINCT]:
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-t", "10", "-an", "-vf", scale]
        command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", str(folder / f"{path.stem}.mp4")]
        subprocess.run(command, check=True)
    return folder


def linked(videos: Path, count: int) -> Path:
    """Give the clips more names, up to ``count``."""
    made = sorted(videos.iterdir())
    for number in range(len(made), count):
        os.link(made[number % len(made)], videos / f"again{number:04d}.mp4")
    return videos


def sharded(videos: Path, folder: Path, *options: str) -> Path:
    """Run ``pal-shard build``."""
    command = [sys.executable, "-m", "shards.cli", "build", str(videos), str(folder), "--shard-bytes", "4MiB"]
    subprocess.run([*command, "--quiet", *options], check=True, stdout=subprocess.DEVNULL)
    return folder


def uploaded(folder: Path, url: str) -> str:
    """Copy a set to an object store."""
    for path in sorted(folder.iterdir()):
        storage.upload_file(path, storage.join(url, path.name))
    return url


def multiplied(folder: Path, out: Path, copies: int, shard_clips: int = SHARD_CLIPS) -> Path:
    """Write a set that holds every clip of another one so many times under other keys, in large shards."""
    out.mkdir(parents=True)
    once = [
        sample
        for shard in shardset.load_manifest(str(folder)).splits["train"].shards
        for sample in split_samples((folder / shard.name).read_bytes())
    ]
    samples = [
        (renamed(sample.record, f"{sample.record.source} {copy}"), sample.video)
        for copy in range(copies)
        for sample in once
    ]
    cuts = range(0, len(samples), shard_clips)
    write_manifest(
        out,
        [write_shard(out, number, samples[cut : cut + shard_clips]) for number, cut in enumerate(cuts)],
    )
    return out


def clip_bytes(folder: Path) -> float:
    """Return the mean bytes of a clip of a set's training split, tar headers included."""
    split = shardset.load_manifest(str(folder)).splits["train"]
    return split.bytes / split.clips


def write_bulk_set(folder: Path, *, shards: int, clips: int, clip_bytes: int) -> Path:
    """Write a set of noise in place of videos, for reading without decoding."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    entries = []
    for shard in range(shards):
        videos = [draw.randbytes(clip_bytes) for _ in range(clips)]
        samples = [(_noise_record(f"{shard}/{clip}", video), video) for clip, video in enumerate(videos)]
        entries.append(write_shard(folder, shard, samples))
    write_manifest(folder, entries)
    return folder


def write_shard(folder: Path, number: int, samples: list[tuple[SampleRecord, bytes]]) -> ShardEntry:
    """Pack samples into one tar with its index."""
    name, tar_bytes, rows = shard_name("train", number), io.BytesIO(), []
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for record, video in samples:
            start = tar_bytes.tell()
            for extension, data in (("mp4", video), ("json", record.to_json())):
                member = tarfile.TarInfo(f"{record.key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            size = tar_bytes.tell() - start
            rows.append(
                SampleEntry(key=record.key, offset=start, size=size, frames=record.frames, fps=record.fps)
            )
    data = tar_bytes.getvalue()
    (folder / name).write_bytes(data)
    (folder / index_name(name)).write_bytes(ShardIndex(shard=name, samples=tuple(rows)).to_json())
    digest = hashlib.sha256(data).hexdigest()
    return ShardEntry(name=name, clips=len(samples), bytes=len(data), sha256=digest)


def renamed(record: SampleRecord, source: str) -> SampleRecord:
    """Return a record under another name."""
    return dataclasses.replace(record, source=source, key=sample_key(source))


def write_manifest(folder: Path, shards: list[ShardEntry]) -> None:
    """Write the manifest of a training split of such shards."""
    clips = sum(shard.clips for shard in shards)
    split = SplitEntry(
        clips=clips,
        frames=300 * clips,
        seconds=10.0 * clips,
        bytes=sum(shard.bytes for shard in shards),
        shards=tuple(shards),
    )
    manifest = Manifest(recipe={"profile": "benchmark"}, splits={"train": split})
    (folder / shardset.MANIFEST_NAME).write_bytes(manifest.to_json())


def _noise_record(name: str, video: bytes) -> SampleRecord:
    return SampleRecord(
        key=sample_key(name),
        source=name,
        start=0.0,
        end=10.0,
        duration=10.0,
        fps=30.0,
        frames=300,
        width=170,
        height=128,
        bytes=len(video),
        sha256=hashlib.sha256(video).hexdigest(),
    )
