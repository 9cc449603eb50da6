"""Makes real shard sets for tests: encoded by ffmpeg, packed as docs/formats.md says."""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np

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

WIDTH, HEIGHT, FPS = 48, 36, 25


def encode(seed: int, frames: int, *, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Encode a moving blob on a textured ground, different for every seed."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (height, width, 3)).astype(np.uint8)
    video = np.repeat(ground[None], frames, axis=0)
    for number in range(frames):
        left = (number * (1 + seed % 3)) % (width - 8)
        video[number, 8:20, left : left + 8] = rng.integers(0, 255, 3) if number == 0 else video[0, 8, 0]
    command = (
        f"ffmpeg -v error -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {FPS} -i - -c:v libx264 "
        "-preset ultrafast -tune fastdecode -bf 0 -g 16 -threads 1 -pix_fmt yuv420p "
        "-movflags frag_keyframe+empty_moov -f mp4 -"
    )
    return subprocess.run(command.split(), input=video.tobytes(), capture_output=True, check=True).stdout


def sample(
    name: str, video: bytes, frames: int, *, label=None, width=WIDTH, height=HEIGHT
) -> tuple[SampleRecord, bytes]:
    record = SampleRecord(
        key=sample_key(name),
        source=name,
        start=0.0,
        end=frames / FPS,
        duration=frames / FPS,
        fps=float(FPS),
        frames=frames,
        width=width,
        height=height,
        bytes=len(video),
        sha256=hashlib.sha256(video).hexdigest(),
        label=label,
    )
    return record, video


def pack(samples: list[tuple[SampleRecord, bytes]], name: str) -> tuple[bytes, ShardIndex]:
    """Pack samples into one tar and its index."""
    out = io.BytesIO()
    entries = []
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for record, video in samples:
            start = out.tell()
            for extension, data in (("mp4", video), ("json", record.to_json())):
                info = tarfile.TarInfo(f"{record.key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            entries.append(
                SampleEntry(
                    key=record.key,
                    offset=start,
                    size=out.tell() - start,
                    frames=record.frames,
                    fps=record.fps,
                )
            )
    return out.getvalue(), ShardIndex(shard=name, samples=tuple(entries))


def write_set(folder: Path, splits: dict[str, list[list[tuple[SampleRecord, bytes]]]], labels=None) -> str:
    """Write a shard set; ``splits`` holds the samples of every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for split, shards in splits.items():
        listed = []
        for number, samples in enumerate(shards):
            name = shard_name(split, number)
            data, index = pack(samples, name)
            (folder / name).write_bytes(data)
            (folder / index_name(name)).write_bytes(index.to_json())
            listed.append(
                ShardEntry(
                    name=name, clips=len(samples), bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
                )
            )
        records = [record for samples in shards for record, _ in samples]
        entries[split] = SplitEntry(
            clips=len(records),
            frames=sum(record.frames for record in records),
            seconds=sum(record.duration for record in records),
            bytes=sum(shard.bytes for shard in listed),
            shards=tuple(listed),
        )
    manifest = Manifest(recipe={"profile": "test"}, splits=entries, labels=labels)
    (folder / shardset.MANIFEST_NAME).write_bytes(manifest.to_json())
    return str(folder)
