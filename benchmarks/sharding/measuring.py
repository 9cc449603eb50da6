"""What the sharding benchmarks share: source clips, runs with their wall and CPU seconds, and result files."""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, processor

#: 10 s of 340x256 with sound, some 800 kB: what the usual copies of Kinetics look like to a decoder.
SOURCE = "testsrc2=s=340x256:r=30:d=10,hue=h={hue},noise=alls=14:allf=t"


def make_clips(folder: Path, count: int, videos: Path | None = None, distinct: int = 8) -> None:
    """Put ``count`` clips into a new folder: links to the files of ``videos``, else to a few encoded here."""
    folder.mkdir()
    made = sorted(path for path in videos.iterdir() if path.is_file()) if videos else []
    for number in range(0 if videos else min(count, distinct)):
        path = folder.with_name(f"{folder.name}-source{number}.mp4")
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", SOURCE.format(hue=number * 40)]
        command += ["-f", "lavfi", "-i", "sine=d=10", "-c:v", "libx264", "-preset", "veryfast", "-crf", "27"]
        subprocess.run([*command, "-pix_fmt", "yuv420p", "-c:a", "aac", str(path)], check=True)
        made.append(path)
    if not made:
        raise SystemExit(f"{videos}: no files in it")
    for number in range(count):
        source = made[number % len(made)]
        target = folder / f"clip{number:05d}{source.suffix}"
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def run(command: Sequence[str] | str, *, cwd: Path | None = None) -> dict[str, float]:
    """Run one side to its end; returns its wall seconds and the CPU seconds of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run(
        command, shell=isinstance(command, str), check=False, capture_output=True, text=True, cwd=cwd
    )
    wall = time.monotonic() - started
    if done.returncode:
        raise SystemExit(
            f"{command}: exit status {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-3000:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": round(wall, 3), "cpu_seconds": round(cpu, 3)}


def best(runs: Mapping[str, Sequence[Mapping[str, float]]], clips: int) -> dict[str, Any]:
    """Return clips/s of each side's fastest run and CPU seconds a clip of its thriftiest."""
    return {
        "clips_per_second": {
            side: round(clips / min(one["wall_seconds"] for one in several), 3)
            for side, several in runs.items()
        },
        "cpu_seconds_per_clip": {
            side: round(min(one["cpu_seconds"] for one in several) / clips, 4)
            for side, several in runs.items()
        },
    }


def document(what: str, **fields: Any) -> dict[str, Any]:
    """Return a result with where, how and from which commit it was measured."""
    module = Path(sys.argv[0]).stem
    arguments = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return {
        "what": what,
        "machine": f"{os.cpu_count()}-core {processor()} ({platform.machine()})",
        "load_average_before": round(os.getloadavg()[0], 2),
        "command": shlex.join(["python", "-m", f"benchmarks.sharding.{module}", *arguments]),
        "commit": commit(),
        **fields,
    }


def write(result: Mapping[str, Any], out: str | None) -> None:
    """Print a result, and write it to a file where one is named."""
    text = json.dumps(result, indent=1) + "\n"
    if out:
        Path(out).write_text(text)
    print(text, end="")
