"""What the filters of pal-shard find: real recordings, copies of them in other encodings, and made stills.

    python -m benchmarks.sharding.filters --footage FOLDER --out benchmarks/sharding/filters.json

Every recording of the demonstration is cut into pieces of 4 s. Copies of some are made smaller, with another frame
rate, brighter and mirrored; stills, slide shows and black are made too. Then ``pal-shard build`` runs with all
filters, and pieces are counted by where they come from and what became of them. No time is measured.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.sharding.measuring import document, write
from corpora.footage import fetch

#: Recordings that are copied; their pieces have between little and much motion.
COPIED = ("R6llTwEh07w.mp4", "WUzgd7C1pWA.mp4", "basketball.mp4", "street.mp4", "juggling-23.avi")
#: Kind of copy -> ffmpeg's arguments and the ending of its file.
COPIES = {
    "smaller, crf 34": (
        ("-vf", "scale=-2:180", "-c:v", "libx264", "-preset", "veryfast", "-crf", "34"),
        "mp4",
    ),
    "15 frames a second, MPEG-4": (("-r", "15", "-c:v", "mpeg4", "-q:v", "8"), "avi"),
    "brighter": (("-vf", "eq=brightness=0.06:contrast=1.1", "-c:v", "libx264", "-preset", "veryfast"), "mp4"),
    "mirrored": (("-vf", "hflip", "-c:v", "libx264", "-preset", "veryfast"), "mp4"),
}
_H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
#: Made kind -> ffmpeg's source; eight seconds of each.
MADE = {
    "a still": "testsrc2=s=320x240:r=25:d=0.04,loop=199:1",
    "a still with noise": "testsrc2=s=320x240:r=25:d=0.04,loop=199:1,noise=alls=6:allf=t",
    "a slide show, a picture in 2 s": "testsrc2=s=320x240:r=1/2:d=8,fps=25",
    "black": "color=black:s=320x240:r=25:d=8",
}
FILTERS = ("--chunk", "4", "--min-motion", "0.1", "--max-black", "0.5", "--dedupe", "near")


def make(source: Path, footage: Path) -> None:
    """Lay recordings, copies and made videos below ``source``, a folder for each kind."""
    (source / "a real").mkdir(parents=True)
    for path in sorted(footage.iterdir()):
        (source / "a real" / path.name).symlink_to(path.resolve())
    for kind, (arguments, ending) in COPIES.items():
        (source / kind).mkdir()
        for name in COPIED:
            if (footage / name).exists():
                target = source / kind / f"{Path(name).stem}.{ending}"
                _ffmpeg("-i", str(footage / name), "-an", *arguments, str(target))
    for kind, graph in MADE.items():
        (source / kind).mkdir()
        _ffmpeg("-f", "lavfi", "-i", graph, *_H264, str(source / kind / "made.mp4"))


def count(records: list[str], rejects: list[dict[str, str]]) -> dict[str, dict[str, int]]:
    """Return by kind of video how many pieces are in the set, and how many each stage rejected."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for source in records:
        found[source.partition("/")[0]]["kept"] += 1
    for reject in rejects:
        found[reject["source"].partition("/")[0]][reject["stage"]] += 1
    return {kind: dict(counts) for kind, counts in sorted(found.items())}


def main() -> None:
    """Make the videos, build, count, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--footage", type=Path, required=True, help="where the recordings are, or are brought to"
    )
    parser.add_argument("--out", help="JSON file to write")
    arguments = parser.parse_args()
    fetch(arguments.footage, lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory() as scratch:
        source, dest = Path(scratch, "videos"), Path(scratch, "set")
        make(source, arguments.footage)
        command = [sys.executable, "-m", "shards.cli", "build", str(source), str(dest), *FILTERS, "--quiet"]
        subprocess.run(command, check=False)
        rejects = [json.loads(line) for line in (dest / "rejects.jsonl").read_text().splitlines()]
        listed = subprocess.run(
            ["tar", "xOf", str(dest / "train-000000.tar"), "--wildcards", "*.json"],
            capture_output=True,
            check=True,
        ).stdout.decode()
        records = _sources(listed)
        manifest = json.loads((dest / "manifest.json").read_bytes())
    assert len(records) == manifest["splits"]["train"]["clips"], "more than one shard"
    what = "what became of the pieces of real, copied and made videos under pal-shard's filters"
    pieces = count(records, rejects)
    write(document(what, filters=" ".join(FILTERS), pieces=pieces, rejects=rejects), arguments.out)


def _sources(documents: str) -> list[str]:
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(documents.rstrip()):
        record, place = decoder.raw_decode(documents, place)
        found.append(record["source"])
        place += len(documents[place:]) - len(documents[place:].lstrip())
    return found


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments], check=True)


if __name__ == "__main__":
    main()
