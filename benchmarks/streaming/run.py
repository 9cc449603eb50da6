"""Streaming against its limits and against the pipeline a user would write, side by side.

    python -m benchmarks.streaming.run --seconds 20 --rounds 3 --out benchmarks/streaming/results.json

In turns, over the same clips, with an idle consumer; the first four, which are close to one another, in short turns
and compared turn by turn, because the speed of a rented machine drifts within minutes:

- bound: only decoding: videos in memory, one ``get_frames_at`` of exactly the frames a PAL sample needs (its own two
  regions and its eight background clips), one process a core.
- bound, store at work: the same, while the S3 server serves another process, which throws the bytes away, as many
  bytes per second as it served "ours" in that round: server and loader share the cores here, and not in a cluster.
- ours: ``GroupLoader`` from S3 to micro-batches on the host, cropped; resizing, colour, blur and blending are left to
  the device, as in training.
- ours, shaped store: the same from a server that only sends files, after 30 ms and at 90 MB/s a connection: a store
  that is elsewhere.
- ours, rendered: the same and ``render`` on the CPU in the consumer: float32 views, as the peer's.
- peer: ``peer.py``: webdataset, torchcodec, torchvision's augmentation written in plain torch, a DataLoader.
- peer, default encode: the same on the clips as they came: x264's defaults, short side 256.

Then reading alone, from a server shaped like S3 (30 ms to the first byte, 90 MB/s a connection): one plain GET
stream, and one worker's stream of clips, by whole windows and by groups. CPU milliseconds are those of all processes
of a side, the S3 server left out: where other work shares the machine they say more than the wall clock.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3fs
import torch

from benchmarks.machine import machine as describe_machine
from benchmarks.streaming import reading, sets, sides
from benchmarks.streaming.shaped import ShapedServer
from launch.demo.s3_server import S3Server

COPIES = 24
#: The server keeps objects in chunks of 1 MB and reads whole ones: by default (4 MB) it would read four times as much
#: as it is asked for, on the cores that are measured.
CHUNKS = ("-filer.maxMB=1",)
RATIOS = (
    ("ours", "bound"),
    ("ours, shaped store", "bound"),
    ("ours", "bound, store at work"),
    ("ours", "peer"),
    ("ours, rendered", "peer"),
    ("ours", "peer, default encode"),
    ("ours, rendered", "peer, default encode"),
)
#: Turns in a round of the sides that are close to one another: the speed of a rented machine drifts within minutes.
TURNS = 4
Figures = dict[str, dict[str, float]]
Turns = dict[str, list[dict[str, float]]]


def decoding(options: argparse.Namespace, scratch: Path) -> tuple[Figures, dict[str, float]]:
    """Run the sides that decode, in turns; return their medians and the ratios."""
    if not (scratch / "copy" / "manifest.json").exists():
        make_sets(scratch, options.videos, options.clips)
    with (
        S3Server(Path(tempfile.mkdtemp(dir=scratch)), options=CHUNKS) as server,
        ShapedServer(scratch / "fast") as shaped,
    ):
        use_environment(server.env)
        fast = sets.uploaded(scratch / "fast", server.bucket("fast"))
        default = sets.uploaded(scratch / "copy", server.bucket("default"))
        store, workers = frozenset(sides.children()), options.workers
        clip_bytes = sets.clip_bytes(scratch / "fast")
        found: Turns = collections.defaultdict(list)
        with contextlib.ExitStack() as stack:
            close: CloseSides | None = None
            if options.sides is None or "bound" in options.sides:
                close = CloseSides(stack, fast, shaped=shaped, server=server, workers=workers, store=store)
            for _ in range(options.rounds):
                if close is not None:
                    for _ in range(TURNS):
                        close.turn(options.seconds / TURNS, clip_bytes, found)
                for name, turn in slow_sides(fast, default, options, store).items():
                    if options.sides is None or name in options.sides:
                        found[name].append(turn())
    return medians(found), ratios(found)


class CloseSides:
    """The sides whose figures are close to one another: all are kept open, and take many short turns."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        fast: str,
        *,
        shaped: ShapedServer,
        server: S3Server,
        workers: int,
        store: frozenset[int],
    ) -> None:
        self._bound = stack.enter_context(contextlib.closing(sides.Bound(fast, workers, store)))
        self._ours = stack.enter_context(contextlib.closing(sides.Ours(fast, workers, store)))
        self._beside = stack.enter_context(contextlib.closing(sides.BesideStore(self._bound, fast)))
        use_environment(shaped.env)
        self._shaped = stack.enter_context(contextlib.closing(sides.Ours("s3://bench", workers, store)))
        use_environment(server.env)

    def turn(self, seconds: float, clip_bytes: float, found: Turns) -> None:
        """Give every side a turn."""
        found["bound"].append(self._bound.turn(seconds))
        found["ours"].append(self._ours.turn(seconds))
        found["ours, shaped store"].append(self._shaped.turn(seconds))
        rate = found["ours"][-1]["per_second"] * clip_bytes
        found["bound, store at work"].append(self._beside.turn(seconds, rate))


def slow_sides(
    fast: str, default: str, options: argparse.Namespace, store: frozenset[int]
) -> dict[str, Callable[[], dict[str, float]]]:
    """Return the sides that are several times slower: one turn a round."""
    workers, seconds = options.workers, options.seconds

    def rendered() -> dict[str, float]:
        with contextlib.closing(sides.Ours(fast, workers, store, rendered=True)) as side:
            return side.turn(seconds)

    return {
        "ours, rendered": rendered,
        "peer": lambda: sides.peer(fast, workers, seconds, store),
        "peer, default encode": lambda: sides.peer(default, workers, seconds, store),
    }


def ratios(found: Turns) -> dict[str, float]:
    """Return the ratios: medians over pairs of neighbouring turns, or of medians where the turns aren't paired."""
    out = {}
    for name, other in RATIOS:
        if name in found and other in found:
            out[f"{name} / {other}"] = ratio(found, name, other, "per_second")
            out[f"{name} / {other}, by CPU time"] = ratio(found, other, name, "cpu_ms_per_sample")
    return out


def ratio(found: Turns, name: str, other: str, figure: str) -> float:
    """Return one ratio."""
    a, b = ([turn[figure] for turn in found[side]] for side in (name, other))
    if len(a) == len(b):
        return statistics.median(x / y for x, y in zip(a, b, strict=True))
    return statistics.median(a) / statistics.median(b)


def make_sets(scratch: Path, own: Path | None, clips: int) -> None:
    """Make ``fast``, as a user of pal-shard has it, and ``copy``, the same clips as they came."""
    videos = scratch / "videos"
    made = sets.default_videos(videos) if own is None else sets.as_default(own, videos)
    sets.linked(made, clips)
    small = sets.sharded(videos, scratch / "small")
    # Enough clips that lanes and windows are those of a real set.
    sets.multiplied(small, scratch / "fast", COPIES)
    sets.sharded(videos, scratch / "copy", "--copy")


def reading_alone(options: argparse.Namespace, scratch: Path) -> tuple[Figures, dict[str, float]]:
    """Run the sides that only read, in turns; return their medians and the ratios."""
    folder = scratch / "bench"
    if not folder.exists():
        sets.write_bulk_set(folder, shards=6, clips=330, clip_bytes=190_000)
    with ShapedServer(folder) as server:
        use_environment(server.env)
        url, seconds = "s3://bench", options.seconds
        turns: dict[str, Callable[[], dict[str, float]]] = {
            "one GET stream": lambda: reading.raw_get(url, seconds),
            "ours, whole windows": lambda: reading.stream(url, "windows", seconds),
            "ours, by groups": lambda: reading.stream(url, "groups", seconds),
        }
        found: Turns = {name: [] for name in turns}
        for _ in range(options.rounds):
            for name, turn in turns.items():
                found[name].append(turn())
    return medians(found), {
        f"{name} / one GET stream": ratio(found, name, "one GET stream", "megabytes_per_second")
        for name in found
        if "ours" in name
    }


def medians(found: Turns) -> Figures:
    """Return the median of every figure over a side's turns."""
    return {
        name: {field: round(statistics.median(turn[field] for turn in turns), 3) for field in turns[0]}
        for name, turns in found.items()
    }


def use_environment(env: dict[str, str]) -> None:
    """Talk to another server from now on."""
    os.environ.update(env)
    s3fs.S3FileSystem.clear_instance_cache()


def machine() -> dict[str, Any]:
    """Say where and on what this was measured, and how busy the machine was."""
    return {**describe_machine(), "load_average_before": os.getloadavg()[0]}


def main() -> None:
    """Run what is asked for, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--videos",
        type=Path,
        help=f"a folder of videos; the first {sets.DISTINCT} are used (default: made here)",
    )
    parser.add_argument("--clips", type=int, default=64, help="clips of a set (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each side and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sides",
        nargs="+",
        help="of those that decode, only these; bound and ours come with their companions",
    )
    parser.add_argument("--only", choices=("decoding", "reading"), help="one half")
    parser.add_argument(
        "--scratch", type=Path, help="keep the shard sets here, and use them if they are there"
    )
    parser.add_argument("--out", type=Path, help="where the JSON goes, beside stdout")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    result: dict[str, Any] = {**machine(), "command": " ".join(["python", *sys.argv])}
    result |= {"workers": options.workers, "seconds": options.seconds, "rounds": options.rounds}
    with contextlib.ExitStack() as stack:
        scratch = options.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        for name, half in (("decoding", decoding), ("reading", reading_alone)):
            if options.only in (None, name):
                result[name], compared = half(options, scratch)
                result[f"{name}, ratios"] = {key: round(value, 3) for key, value in compared.items()}
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
