"""Peak memory of pal-shard for few and for many small clips: it must not grow with their number.

    python -m benchmarks.sharding.memory --counts 1000 20000 --out benchmarks/sharding/memory.json

What is measured is the pal-shard process; its tools are processes of their own with one clip each. So that 20,000
clips take minutes, ``ffmpeg`` is replaced for the encodes by a script that copies the result of one real encode;
every result is decoded by the real one. ``--real`` leaves ffmpeg alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.sharding.measuring import document, write
from shards.encoding.profiles import PROFILES

# The process's own high-water mark: getrusage's also holds that of the process it was forked from.
_RUN = """
import sys
from shards.cli import main
status = main(sys.argv[1:])
marks = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(status, *marks, file=sys.stderr)
"""
_COPYING_FFMPEG = """#!/bin/sh
for last; do :; done
case "$*" in
*" -t 601.000000 "*) exec cp {clip} "${{last#file:}}" ;;
*) exec {ffmpeg} "$@" ;;
esac
"""


def peak(folder: Path, video: Path, count: int, env: dict[str, str]) -> float:
    """Build ``count`` links to one video; returns the peak resident memory of the process in MB."""
    videos = folder / f"videos{count}"
    videos.mkdir()
    for number in range(count):
        os.link(video, videos / f"v{number:06d}.mp4")
    arguments = ["build", str(videos), str(folder / f"set{count}"), "--shard-bytes", "512KB", "--quiet"]
    command = [sys.executable, "-c", _RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    status, kilobytes = done.stderr.split()[-2:]
    assert status == "0", done.stderr
    return round(int(kilobytes) / 1024, 1)


def with_copying_ffmpeg(folder: Path, video: Path) -> dict[str, str]:
    """Return an environment in which ffmpeg copies instead of encoding."""
    ffmpeg = shutil.which("ffmpeg")
    assert ffmpeg is not None
    clip = folder / "encoded.mp4"
    profile = PROFILES["fast"]
    command = [ffmpeg, "-v", "error", "-i", str(video), "-an", "-vf", profile.filters(), *profile.encoder()]
    subprocess.run([*command, str(clip)], check=True)
    tools = folder / "bin"
    tools.mkdir()
    script = tools / "ffmpeg"
    script.write_text(_COPYING_FFMPEG.format(clip=shlex.quote(str(clip)), ffmpeg=shlex.quote(ffmpeg)))
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def main() -> None:
    """Measure every count, then print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--real", action="store_true", help="encode every clip (hours for many)")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    result = document("peak resident memory of the pal-shard process (MB) by number of clips")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = folder / "source.mp4"
        source = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=1", "-c:v", "libx264", "-preset", "ultrafast"]
        subprocess.run(["ffmpeg", "-v", "error", *source, str(video)], check=True)
        env = dict(os.environ) if arguments.real else with_copying_ffmpeg(folder, video)
        found = {str(count): peak(folder, video, count, env) for count in arguments.counts}
    low, high = min(found.values()), max(found.values())
    write(
        {**result, "encodes": "real" if arguments.real else "copies of one", "peak_mb": found}
        | {"growth": round(high / low, 3)},
        arguments.out,
    )


if __name__ == "__main__":
    main()
