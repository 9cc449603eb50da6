"""pal-shard against its limit: the same ffmpeg command over the same clips with ``xargs -P``, and nothing else.

    python -m benchmarks.sharding.against_limit --out benchmarks/sharding/against_limit.json

Both sides are run in turns. CPU seconds are those of all processes of a side; where other work shares the machine
they say more than the wall clock. ``xargs`` neither decodes what it made, nor hashes, packs, indexes or resumes.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.sharding.measuring import best, document, make_clips, run, write
from pal_ds.ffmpeg.reading import input_arguments
from shards.encoding.profiles import PROFILES
from shards.shared_arguments import default_workers


def limit_command(out: Path, workers: int) -> str:
    """The recipe's ffmpeg command under xargs, to be run in the folder of the videos."""
    arguments = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "info", *input_arguments("{}")]
    arguments += ["-t", "601", "-map", "0:V:0", "-an", "-sn", "-dn", "-map_metadata", "-1"]
    arguments += ["-map_chapters", "-1", "-max_error_rate", "0.1", "-filter_threads", "1"]
    arguments += ["-vf", PROFILES["fast"].filters(), *PROFILES["fast"].encoder(), "-y", f"{out}/{{}}.mp4"]
    return f"ls | xargs -P {workers} -I {{}} {shlex.join(arguments)}"


def main() -> None:
    """Run both sides in turns and print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=Path, help="folder of source clips (default: made here)")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    workers = default_workers()
    sides: dict[str, list[dict[str, float]]] = {"xargs": [], "pal-shard": []}
    result = document("pal-shard build against the same ffmpeg command under xargs -P on all cores")
    with tempfile.TemporaryDirectory() as name:
        videos, plain, made = (Path(name) / part for part in ("videos", "plain", "set"))
        make_clips(videos, arguments.clips, arguments.videos)
        build = [sys.executable, "-m", "shards.cli", "build", str(videos), str(made), "--quiet"]
        for _ in range(arguments.rounds):
            plain.mkdir()
            sides["xargs"].append(run(limit_command(plain, workers), cwd=videos))
            assert len(list(plain.iterdir())) == arguments.clips
            sides["pal-shard"].append(run([*build, "--workers", str(workers)]))
            shutil.rmtree(plain)
            shutil.rmtree(made)
    summary = best(sides, arguments.clips)
    speed, cost = summary["clips_per_second"], summary["cpu_seconds_per_clip"]
    write(
        {
            **result,
            "clips": arguments.clips,
            "workers": workers,
            "runs": sides,
            **summary,
            "ratio_of_clips_per_second": round(speed["pal-shard"] / speed["xargs"], 4),
            "ratio_of_cpu": round(cost["xargs"] / cost["pal-shard"], 4),
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
