"""The command: ``run`` phases, ``pack`` what a machine without internet needs, print ``tables``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks.gpu.plan import PHASES, STEPS
from benchmarks.gpu.runner import Runner


def main(words: list[str] | None = None) -> int:
    """Run the command; 0 where every step was sound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run phases and write their results into one JSON file")
    run.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file (default %(default)s)")
    run.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES), help="which (default: all)")
    run.add_argument("--only", nargs="+", choices=STEPS, default=[], help="of these phases, only these steps")
    run.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the program itself")
    run.add_argument("--tiny", action="store_true", help="as small as can be")
    run.add_argument(
        "--jobs", type=int, default=1, help="steps at a time; times mean nothing above 1 (default 1)"
    )
    run.add_argument("--folder", type=Path, default=Path(".gpu-proof"), help="kept between phases")
    run.add_argument("--brought", type=Path, help="folder that pack has made and unpack.sh has unpacked")
    pack = commands.add_parser("pack", help="pack what a machine without internet needs, at most 60 MB")
    pack.add_argument("--out", type=Path, required=True, help="folder to make")
    pack.add_argument("--python", default="3.12", help="the machine's Python (default %(default)s)")
    pack.add_argument("--torchcodec", default="", help="version made for the machine's torch")
    pack.add_argument(
        "--clips", type=Path, help="shard set of real clips; default: made of the demonstration's"
    )
    pack.add_argument("--ffmpeg", type=Path, help="folder with bin/ and lib/; default: built from source")
    tables = commands.add_parser("tables", help="print the results as Markdown")
    tables.add_argument("file", type=Path)
    args = parser.parse_args(words)
    if args.command == "tables":
        from benchmarks.gpu.tables import markdown

        sys.stdout.write(markdown(json.loads(args.file.read_text())))
        return 0
    if args.command == "pack":
        from benchmarks.gpu.pack import pack_all

        return pack_all(args.out, args.python, args.torchcodec, args.clips, args.ffmpeg)
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write(
            "gpu: torch sees no CUDA device: run this on a GPU machine with torch's CUDA build "
            "(python launch/pretrain.py doctor tells what is wrong), or try the program with --device cpu --tiny\n"
        )
        return 2
    runner = Runner(args.out, device=args.device, tiny=args.tiny, folder=args.folder, brought=args.brought)
    return 0 if runner.run(args.phases, args.only, args.jobs) else 1
