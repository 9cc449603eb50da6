"""Peak memory of pal-shard for few and for many small clips: it must not grow with their number.

python benchmarks/sharding/memory.py --counts 200 2000 --out benchmarks/sharding/memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

_RUN = """
import resource, sys
from shards.cli import main
status = main(sys.argv[1:])
print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak(folder: Path, video: Path, count: int) -> float:
    """Build ``count`` links to one video; returns the peak resident memory of the process in MB."""
    videos = folder / f"videos{count}"
    videos.mkdir()
    for number in range(count):
        os.link(video, videos / f"v{number:06d}.mp4")
    arguments = ["build", str(videos), str(folder / f"set{count}"), "--shard-bytes", "500KB", "--quiet"]
    command = [sys.executable, "-c", _RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, kilobytes = done.stderr.split()[-2:]
    assert status == "0", done.stderr
    return round(int(kilobytes) / 1024, 1)


def main() -> None:
    """Measure every count, then print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        video = Path(name) / "source.mp4"
        source = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=1", "-c:v", "libx264", "-preset", "ultrafast"]
        subprocess.run(["ffmpeg", "-v", "error", *source, str(video)], check=True)
        found = {str(count): peak(Path(name), video, count) for count in arguments.counts}
    document = {
        "what": "peak resident memory of the pal-shard process (MB) by number of clips",
        "machine": f"{os.cpu_count()}-core {platform.machine()}",
        "command": shlex.join(Path(word).name if word.startswith("/") else word for word in sys.argv),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "peak_mb": found,
    }
    text = json.dumps(document, indent=1) + "\n"
    if arguments.out:
        Path(arguments.out).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
