"""pal-shard against its limit: the same ffmpeg command over the same clips with ``xargs -P``, and nothing else.

    python benchmarks/sharding/against_limit.py --clips 48 --rounds 3 --out benchmarks/sharding/against_limit.json

Both sides are run in turns. CPU seconds are those of all processes of a side; where other work shares the machine
they say more than the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shards.options import default_workers
from shards.profiles import PROFILES, input_arguments

SOURCE = "testsrc2=s=340x256:r=30:d=10,hue=h={hue},noise=alls=12:allf=t"


def make_clips(folder: Path, count: int, distinct: int = 8) -> None:
    """Encode a few 10 s clips with sound, like Kinetics' usual copies, and link them under more names."""
    folder.mkdir()
    made = []
    for number in range(min(count, distinct)):
        path = folder / f"clip{number:04d}.mp4"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", SOURCE.format(hue=number * 40)]
        command += ["-f", "lavfi", "-i", "sine=d=10", "-c:v", "libx264", "-preset", "veryfast", "-crf", "30"]
        subprocess.run([*command, "-c:a", "aac", str(path)], check=True)
        made.append(path)
    for number in range(len(made), count):
        os.link(made[number % len(made)], folder / f"clip{number:04d}.mp4")


def measure(command: list[str] | str, workers: int) -> dict[str, float]:
    """Run one side; wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(command, shell=isinstance(command, str), check=True, capture_output=True)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "workers": workers}


def limit_command(videos: Path, out: Path, workers: int) -> str:
    """The recipe's ffmpeg command under xargs."""
    arguments = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "info", *input_arguments("{}")]
    arguments += [
        "-t",
        "601",
        "-map",
        "0:V:0",
        "-an",
        "-sn",
        "-dn",
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
    ]
    arguments += ["-max_error_rate", "0.1", "-filter_threads", "1", "-vf", PROFILES["fast"].filters()]
    arguments += [*PROFILES["fast"].encoder(), "-y", f"{out}/{{}}"]
    return f"cd {videos} && ls | xargs -P {workers} -I {{}} {shlex.join(arguments)}"


def main() -> None:
    """Run both sides in turns and print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default=None)
    arguments = parser.parse_args()
    workers = default_workers()
    sides: dict[str, list[dict[str, float]]] = {"xargs": [], "pal-shard": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "videos", arguments.clips)
        build = [
            sys.executable,
            "-m",
            "shards.cli",
            "build",
            str(folder / "videos"),
            str(folder / "set"),
            "--quiet",
        ]
        for _ in range(arguments.rounds):
            (folder / "plain").mkdir()
            sides["xargs"].append(
                measure(limit_command(folder / "videos", folder / "plain", workers), workers)
            )
            assert len(list((folder / "plain").iterdir())) == arguments.clips
            sides["pal-shard"].append(measure([*build, "--workers", str(workers)], workers))
            shutil.rmtree(folder / "plain")
            shutil.rmtree(folder / "set")
    best = {side: min(runs, key=lambda run: run["wall_seconds"]) for side, runs in sides.items()}
    cpu = {side: min(run["cpu_seconds"] for run in runs) for side, runs in sides.items()}
    document = {
        "what": "clips/s of pal-shard build over clips/s of the same ffmpeg command under xargs -P",
        "machine": f"{os.cpu_count()}-core {platform.machine()}",
        "load_average": os.getloadavg()[0],
        "command": shlex.join(Path(word).name if word.startswith("/") else word for word in sys.argv),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "clips": arguments.clips,
        "runs": sides,
        "clips_per_second": {
            side: round(arguments.clips / run["wall_seconds"], 3) for side, run in best.items()
        },
        "cpu_seconds_per_clip": {side: round(value / arguments.clips, 4) for side, value in cpu.items()},
        "ratio_of_best_walls": round(best["xargs"]["wall_seconds"] / best["pal-shard"]["wall_seconds"], 4),
        "ratio_of_best_cpu": round(cpu["xargs"] / cpu["pal-shard"], 4),
    }
    text = json.dumps(document, indent=1) + "\n"
    if arguments.out:
        Path(arguments.out).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
