"""pal-shard beside video2dataset's resize to the same short side: same clips, same machine, in turns.

    python -m venv V2D && V2D/bin/pip install video2dataset==1.3.0 pyarrow==15.0.2
    python -m benchmarks.sharding.against_video2dataset --peer-python V2D/bin/python --out FILE

Its ``ResolutionSubsampler`` is called as its workers call it, on the bytes of each clip, by a pool of as many
processes as cores, and what it returns goes into a tar: no more than that of its pipeline is timed. (Of the stages of
version 1.3.0, ``download`` asks this subsampler for an attribute that it does not have, and ``subset`` wrote 8 of 16
clips in a trial and ended without an error; later versions of pyarrow refuse the numpy that it asks for.) Without
``--peer-python`` only its ffmpeg command is run, under ``xargs``, and the result says so.

What comes out is compared too: bytes, and the CPU time to decode what one PAL sample needs of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.sharding.access import decode_milliseconds
from benchmarks.sharding.measuring import best, document, make_clips, run, write
from shards.encoding.profiles import PROFILES
from shards.shared_arguments import default_workers

#: A small run beside the large one tells what starting costs.
FEW = 8
_PEER = """
import io, json, multiprocessing, sys, tarfile
from pathlib import Path
from video2dataset.subsamplers import ResolutionSubsampler
given = json.loads(sys.argv[1])
resize = ResolutionSubsampler(resize_mode=["scale"], height=given["short_side"], encode_format="mp4")
def one(path):
    streams, _, error = resize({"video": [path.read_bytes()]}, {})
    assert error is None, error
    return path.stem, streams["video"][0]
if __name__ == "__main__":
    paths = sorted(Path(given["videos"]).iterdir())
    pool = multiprocessing.get_context("fork").Pool(given["workers"])
    with pool, tarfile.open(Path(given["out"]) / "00000.tar", "w") as tar:
        for key, data in pool.imap_unordered(one, paths):
            member = tarfile.TarInfo(key + ".mp4")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
"""


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
        self.names = (
            f"video2dataset {peer_version(python)}, ResolutionSubsampler" if python else peer,
            "pal-shard",
        )
        self.theirs, self.ours = scratch / "theirs", scratch / "ours"
        self._scratch, self._python, self._workers = scratch, python, workers

    def rounds(self, clips: int, count: int, sources: Path | None) -> dict[str, list[dict[str, float]]]:
        """Run both sides in turns over ``clips`` clips; returns seconds by side."""
        videos = self._scratch / f"videos{clips}"
        make_clips(videos, clips, sources)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in self.names}
        for _ in range(count):
            for folder in (self.theirs, self.ours):
                shutil.rmtree(folder, ignore_errors=True)
            self.theirs.mkdir()
            found[self.names[0]].append(self._peer(videos))
            build = [sys.executable, "-m", "shards.cli", "build", str(videos), str(self.ours), "--quiet"]
            found[self.names[1]].append(run([*build, "--workers", str(self._workers)]))
        return found

    def _peer(self, videos: Path) -> dict[str, float]:
        side = PROFILES["fast"].short_side
        if self._python is None:
            return run(remade_command(self.theirs, side, self._workers), cwd=videos)
        script = self._scratch / "peer.py"
        script.write_text(_PEER)
        given = {"videos": str(videos), "out": str(self.theirs), "short_side": side, "workers": self._workers}
        return run([self._python, str(script), json.dumps(given)])


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
