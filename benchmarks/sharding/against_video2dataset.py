"""pal-shard beside video2dataset's resize to the same short side: same clips, same machine, in turns.

    python -m venv V2D && V2D/bin/pip install video2dataset==1.3.0 pyarrow==15.0.2
    python -m benchmarks.sharding.against_video2dataset --peer-python V2D/bin/python --out FILE

video2dataset reads tars of the clips (stage ``subset``, its ``ResolutionSubsampler``, as many processes as cores) and
writes tars. In version 1.3.0 the same subsampler fails in the ``download`` stage, which asks it for an attribute that
it does not have; and later versions of pyarrow refuse the numpy that it asks for. Without ``--peer-python`` only its
ffmpeg command is run, under ``xargs``, and the result says so.

What comes out is compared too: bytes, and the CPU time to decode what one PAL sample needs of it.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.sharding.access import decode_milliseconds
from benchmarks.sharding.measuring import best, document, make_clips, run, write
from shards.options import default_workers
from shards.profiles import PROFILES

#: A small run beside the large one tells what starting costs.
FEW = 8
_PEER = """
import json, sys
from video2dataset import video2dataset
if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    video2dataset(url_list=given["tars"], output_folder=given["out"], input_format="webdataset",
                  output_format="webdataset", stage="subset", encode_formats={"video": "mp4"}, config=given["config"])
"""


def peer_config(short_side: int, workers: int, clips: int) -> dict[str, Any]:
    """video2dataset's own defaults, with its resize and one process for each core."""
    resize = {"resize_mode": ["scale"], "height": short_side, "encode_format": "mp4"}
    yt = {"download_size": 360, "download_audio_rate": 44100, "yt_metadata_args": None}
    return {
        "subsampling": {"ResolutionSubsampler": {"args": resize}},
        "reading": {"yt_args": yt, "timeout": 60, "sampler": None},
        "storage": {"number_sample_per_shard": clips, "oom_shard_count": 5, "captions_are_subtitles": False},
        "distribution": {
            "processes_count": workers,
            "thread_count": workers,
            "subjob_size": 1000,
            "distributor": "multiprocessing",
        },
    }


def pack_sources(videos: Path, folder: Path, tars: int) -> None:
    """Put the clips into tars as video2dataset's first stage leaves them; not part of what is timed."""
    folder.mkdir()
    paths = sorted(videos.iterdir())
    for number in range(tars):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for place, path in enumerate(paths[number::tars]):
                key = f"{number:05d}{place:04d}"
                tar.add(path, f"{key}.mp4")
                record = json.dumps({"key": key, "status": "success"}).encode()
                member = tarfile.TarInfo(f"{key}.json")
                member.size = len(record)
                tar.addfile(member, io.BytesIO(record))


def remade_command(out: Path, short_side: int, workers: int) -> str:
    """The ffmpeg command that video2dataset 1.3.0 runs for each clip, under xargs."""
    line = f"ffmpeg -nostdin -i {{}} -filter_complex '[0]scale=-2:{short_side}[s0]' -map '[s0]' -reset_timestamps 1"
    return f'ls | xargs -P {workers} -I {{}} {line} "{out}/{{}}.mp4"'


def clips_in(folder: Path) -> list[bytes]:
    """Every mp4 below a folder, in tars or plain, in order."""
    found = [path.read_bytes() for path in sorted(folder.rglob("*.mp4"))]
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".mp4") else None
                if file is not None:
                    found.append(file.read())
    return found


def describe(clips: list[bytes], sample: int, passes: int) -> dict[str, float]:
    """Mean bytes of all clips, and the mean cost of decoding some of them."""
    step = max(1, len(clips) // sample)
    chosen = {str(number): clips[number] for number in range(0, len(clips), step)}
    costs = decode_milliseconds(chosen, passes)
    return {
        "clips": len(clips),
        "bytes_per_clip": round(statistics.mean(map(len, clips))),
        "decode_ms_per_clip": round(statistics.mean(costs.values()), 2),
    }


def peer_version(python: str) -> str:
    """The version of video2dataset that an interpreter has."""
    ask = "import importlib.metadata as m; print(m.version('video2dataset'))"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


class Sides:
    """Both sides over one set of clips, in a scratch folder.

    Attributes:
        names: the peer's name and ours.
        theirs, ours: where each side's last run left its result.
    """

    def __init__(self, scratch: Path, python: str | None, workers: int) -> None:
        peer = "ffmpeg command of video2dataset 1.3.0, remade, under xargs"
        self.names = (f"video2dataset {peer_version(python)}" if python else peer, "pal-shard")
        self.theirs, self.ours = scratch / "theirs", scratch / "ours"
        self._scratch, self._python, self._workers = scratch, python, workers

    def rounds(self, clips: int, count: int, sources: Path | None) -> dict[str, list[dict[str, float]]]:
        """Run both sides in turns over ``clips`` clips; returns seconds by side."""
        videos, tars = self._scratch / f"videos{clips}", self._scratch / f"tars{clips}"
        make_clips(videos, clips, sources)
        pack_sources(videos, tars, min(clips, 2 * self._workers))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in self.names}
        for _ in range(count):
            for folder in (self.theirs, self.ours):
                shutil.rmtree(folder, ignore_errors=True)
            self.theirs.mkdir()
            found[self.names[0]].append(self._peer(videos, tars, clips))
            build = [sys.executable, "-m", "shards.cli", "build", str(videos), str(self.ours), "--quiet"]
            found[self.names[1]].append(run([*build, "--workers", str(self._workers)]))
        return found

    def _peer(self, videos: Path, tars: Path, clips: int) -> dict[str, float]:
        side = PROFILES["fast"].short_side
        if self._python is None:
            return run(remade_command(self.theirs, side, self._workers), cwd=videos)
        last = min(clips, 2 * self._workers) - 1
        given = {
            "tars": f"{tars}/{{{0:05d}..{last:05d}}}.tar",
            "out": str(self.theirs),
            "config": peer_config(side, self._workers, clips),
        }
        script = self._scratch / "peer.py"
        script.write_text(_PEER)
        return run(["env", "WANDB_MODE=disabled", self._python, str(script), json.dumps(given)])


def main() -> None:
    """Run both sides in turns, look at what they made, and print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="interpreter of an environment with video2dataset")
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=Path, help="folder of source clips (default: made here)")
    parser.add_argument("--passes", type=int, default=8, help="of the decode measurement")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    workers = default_workers()
    with tempfile.TemporaryDirectory() as scratch:
        sides = Sides(Path(scratch), arguments.peer_python, workers)
        peer, own = sides.names
        result = document(
            f"pal-shard build beside {peer}: resize to short side {PROFILES['fast'].short_side}"
        )
        few = sides.rounds(FEW, 1, arguments.videos)
        runs = sides.rounds(arguments.clips, arguments.rounds, arguments.videos)
        made = {peer: clips_in(sides.theirs), own: clips_in(sides.ours)}
    outcome = {name: describe(clips, 8, arguments.passes) for name, clips in made.items()}
    if outcome[peer]["clips"] != arguments.clips:
        raise SystemExit(f"{peer}: made {outcome[peer]['clips']} of {arguments.clips} clips")
    summary = best(runs, arguments.clips)
    speed = summary["clips_per_second"]
    # What is left of a clip's seconds without the start of the programs: the slope between few clips and many.
    slopes = {
        name: (min(one["wall_seconds"] for one in runs[name]) - few[name][0]["wall_seconds"])
        / (arguments.clips - FEW)
        for name in sides.names
    }
    write(
        {
            **result,
            "clips": arguments.clips,
            "workers": workers,
            "runs": runs,
            f"runs_of_{FEW}_clips": few,
            **summary,
            "ratio_of_clips_per_second": round(speed[own] / speed[peer], 4),
            "ratio_without_startup": round(slopes[peer] / slopes[own], 4),
            "made": outcome,
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
