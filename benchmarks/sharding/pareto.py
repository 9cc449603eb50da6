"""Where the profiles stand between bytes and decode time, on the frames that one PAL sample needs.

    python -m benchmarks.sharding.pareto --out benchmarks/sharding/pareto.json --plot benchmarks/sharding/pareto.png

It fetches real recordings and renders motion capture by itself (kept in ``--footage``), encodes every clip in every
variant, and decodes all of them in turns: 8 clips of 8 frames, stride 1 to 4, in one call of torchcodec, one thread,
opening included. CPU milliseconds are the best of several passes. Fewer bytes and milliseconds can always be had for
a worse picture; so pictures are compared with the source's (SSIM of luma at short side 128), and a variant is on the
front where no other is at least as good in all three and better in one.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.sharding.access import decode_milliseconds
from benchmarks.sharding.footage import gather
from benchmarks.sharding.measuring import document, write
from benchmarks.sharding.variants import DEFAULT, Variant, filters_of, variants

_SSIM = re.compile(r"SSIM .*?Y:([0-9.]+)")
#: Differences below these are noise: share of bytes, share of milliseconds, SSIM.
_NOISE = (0.0, 0.02, 0.0005)


def ssim(source: Path, clip: Path) -> float:
    """Return how alike a clip's pictures and its source's are at short side 128."""
    same = filters_of(128)
    graph = f"[0:V:0]{same}[a];[1:V:0]{same}[b];[a][b]scale2ref=flags=bicubic[c][d];[c]setsar=1[e];[e][d]ssim"
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-i", str(clip), "-i", str(source)]
    done = subprocess.run(
        [*command, "-filter_complex", graph, "-f", "null", "-"], check=True, capture_output=True, text=True
    )
    found = _SSIM.findall(done.stderr)
    return float(found[-1])


def measure(
    sources: Sequence[Path], chosen: Sequence[Variant], passes: int, folder: Path
) -> list[dict[str, Any]]:
    """Encode clips of one kind in every variant; returns means over the clips."""
    rows: dict[str, list[tuple[int, float, float]]] = {variant.name: [] for variant in chosen}
    for source in sources:
        data: dict[str, bytes] = {}
        quality: dict[str, float] = {}
        for variant in chosen:
            target = folder / "clip.mp4"
            variant.encode(source, target)
            data[variant.name] = target.read_bytes()
            quality[variant.name] = ssim(source, target)
        costs = decode_milliseconds(data, passes)
        for name, row in rows.items():
            row.append((len(data[name]), costs[name], quality[name]))
    found: list[dict[str, Any]] = [
        {
            "variant": variant.name,
            "family": variant.family,
            "quality": variant.quality,
            "kilobytes": round(statistics.mean(size for size, _, _ in rows[variant.name]) / 1000, 1),
            "decode_ms": round(statistics.mean(cost for _, cost, _ in rows[variant.name]), 2),
            "ssim": round(statistics.mean(alike for _, _, alike in rows[variant.name]), 4),
        }
        for variant in chosen
    ]
    for entry in found:
        entry["beaten_by"] = [other["variant"] for other in found if beats(other, entry)]
        entry["on_front"] = not entry["beaten_by"]
    return found


def beats(other: dict[str, Any], row: dict[str, Any]) -> bool:
    """Tell whether ``other`` is as good in bytes, time and picture, and better in one by more than noise."""
    kilobytes = float(other["kilobytes"]) / float(row["kilobytes"]) - 1
    milliseconds = float(other["decode_ms"]) / float(row["decode_ms"]) - 1
    worse_picture = float(row["ssim"]) - float(other["ssim"])
    gaps = list(zip((kilobytes, milliseconds, worse_picture), _NOISE, strict=True))
    return all(gap <= 0 for gap, _ in gaps) and any(gap < -noise for gap, noise in gaps)


def place(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe where the default profile stands among the variants of one kind of footage."""
    default = next(row for row in rows if row["variant"] == DEFAULT)
    as_good = [row for row in rows if row["ssim"] >= default["ssim"] - 0.005]
    fastest = min(as_good, key=lambda row: float(row["decode_ms"]))
    smallest = min(as_good, key=lambda row: float(row["kilobytes"]))
    return {
        "on_front": default["on_front"],
        "beaten_by": default["beaten_by"],
        "kilobytes": default["kilobytes"],
        "decode_ms": default["decode_ms"],
        "of_equal_picture_fastest": {key: fastest[key] for key in ("variant", "kilobytes", "decode_ms")},
        "of_equal_picture_smallest": {key: smallest[key] for key in ("variant", "kilobytes", "decode_ms")},
    }


def main() -> None:
    """Measure every kind of footage, then print or write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--footage", type=Path, help="where footage is kept (default: a folder removed at the end)"
    )
    parser.add_argument("--clips", type=int, default=3, help="of each kind of footage")
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="fewer variants, for a trial")
    parser.add_argument("--out")
    parser.add_argument("--plot")
    arguments = parser.parse_args()
    chosen = [one for one in variants() if not arguments.only or one.family in arguments.only]
    result = document("bytes of a clip against the decode time of one PAL sample, and the picture's SSIM")
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.footage or Path(name) / "footage"
        folder.mkdir(parents=True, exist_ok=True)
        kinds = {kind: clips[: arguments.clips] for kind, clips in gather(folder).items()}
        results = {
            kind: measure(clips, chosen, arguments.passes, Path(name)) for kind, clips in kinds.items()
        }
    write(
        {
            **result,
            "clips": {kind: [path.name for path in clips] for kind, clips in kinds.items()},
            "default": {kind: place(rows) for kind, rows in results.items()},
            "results": results,
        },
        arguments.out,
    )
    if arguments.plot:
        from benchmarks.sharding.pareto_plot import plot

        plot(results, Path(arguments.plot))


if __name__ == "__main__":
    main()
