"""Tars as other tools write them: webdataset's ShardWriter, and video2dataset's layout."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path


def shard_writer_set(folder: Path, videos: Sequence[Path], *, per_tar: int = 5) -> Path:
    """Write a plain webdataset set."""
    import webdataset

    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "clips-%04d.tar"), maxcount=per_tar, verbose=0) as writer:
        for number, path in enumerate(videos):
            sample = {"__key__": f"clip{number:05d}", "mp4": path.read_bytes(), "cls": str(number % 3)}
            writer.write(sample)
    return folder


def video2dataset_set(folder: Path, videos: Sequence[Path], *, per_tar: int = 5) -> Path:
    """Write tars of ``mp4+json+txt`` with files of statistics beside them, as video2dataset leaves them."""
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, len(videos), per_tar)):
        members = []
        for place, path in enumerate(videos[first : first + per_tar]):
            key = f"{number:05d}{place:04d}"
            url = f"https://videos.example/{path.name}"
            document = {"url": url, "key": key, "status": "success", "caption": f"a clip called {path.stem}"}
            members += [
                (f"{key}.mp4", path.read_bytes()),
                (f"{key}.txt", document["caption"].encode()),
                (f"{key}.json", json.dumps(document, indent=4).encode()),
            ]
        (folder / f"{number:05d}.tar").write_bytes(tar_of(members))
        (folder / f"{number:05d}_stats.json").write_text('{"successes": 5}')
        (folder / f"{number:05d}.parquet").write_bytes(b"PAR1")
    return folder


def tar_of(members: Iterable[tuple[str, bytes]], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of the members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
