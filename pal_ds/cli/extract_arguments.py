"""The arguments of ``pal-extract``, and the help that teaches them."""

from __future__ import annotations

import argparse

from pal_ds.cli import import_features
from pal_ds.command_line.parser import CommandParser, Example, Word
from pal_ds.transfer.extraction.frozen_encoder import CROPS, PRECISIONS
from pal_ds.transfer.extraction.options import DTYPES
from pal_ds.transfer.extraction.readouts import HELP as READOUTS
from pal_ds.transfer.feature_formats import FORMATS

_EXAMPLES = (
    Example(
        "a run's newest checkpoint over a folder of videos, on this machine",
        "pal-extract --checkpoint runs/pal-1 --videos videos/ --out features/",
    ),
    Example(
        "ActivityNet as in the paper's tables, on all GPUs: constant rate, files for G-TAD and BMN",
        "deepspeed --module pal_ds.cli.extract --checkpoint s3://bucket/runs/pal-1 --videos s3://bucket/anet/ "
        "--out s3://bucket/features/anet --fps 15 --format anet-hdf5 --format bmn-csv "
        "--annotations activity_net.v1-3.json",
    ),
    Example(
        "THUMOS'14: every frame, a stride of 4, files for OpenTAD and ActionFormer",
        "pal-extract --checkpoint backbone.safetensors --videos thumos/ --out features/thumos --stride 4 "
        "--format opentad --format actionformer --annotations thumos14.json",
    ),
    Example(
        "a transformer's last layers, pooled and as tokens, four times a second, in half precision",
        "pal-extract --checkpoint backbone.safetensors --videos videos/ --out features/ --stride-seconds 0.25 "
        "--layers output,layer:-3,last4 --keep-tokens --precision bf16 --dtype float16 --batch 64",
    ),
)
_DETAILS = """
what is written:
  DEST/v_<id>.npy    [T, C], float32 or what --dtype says; <id> is the file's stem, or the sample's key in a shard set
  DEST/v_<id>.json   fps, clip_frames, stride, offset, duration, frames, checkpoint digest, …
                     feature t is centred at (t * stride + clip_frames / 2) / fps seconds
  DEST/extract.json  the settings all files share; other settings need another folder or --overwrite
  DEST/errors.jsonl  a line for every video that could not be read (absent if there is none)
  DEST/<format>/     what --format adds
  DEST/<layer>/      with --layers all of this but errors.jsonl for each, in place of DEST itself

Frames after the last whole clip are left out. A video shorter than one clip gives one feature, its last frame
repeated. Stop it when you like: finished videos are never done twice.
"""
_CLOSING = "exit status: 0 all videos have features; 3 some failed, see errors.jsonl; 2 bad usage; 1 failed"
#: Options whose explanation --help leaves to --help-all.
_RARE = (
    *("--split", "--clip-frames", "--size", "--short-side", "--crop", "--stride-seconds", "--layers"),
    *("--keep-tokens", "--precision", "--dtype", "--workers", "--threads", "--overwrite", "--json"),
)


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    formats = "\n".join(
        f"  {name:<13} {entry.readers}: {entry.files}" for name, entry in sorted(FORMATS.items())
    )
    parser = CommandParser(
        prog="pal-extract",
        description="Turn untrimmed videos into feature sequences with a frozen, pre-trained backbone.",
        examples=_EXAMPLES,
        details=f"formats besides npy:\n{formats}\n{_DETAILS}",
        closing=_CLOSING,
        words={
            "import": Word("features of other code bases into the same form", import_features.build_parser)
        },
        top=True,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        required=True,
        help="run folder, checkpoint folder, exported folder or backbone.safetensors; path or URL",
    )
    add("--videos", required=True, help="folder, URL prefix, one video file, or a shard set")
    add("--out", required=True, help="folder or URL for the features")
    add("--split", help="only this split of a shard set (default: all splits)")
    add("--clip-frames", type=int, default=0, help="frames per clip (default: as trained)")
    add(
        "--stride",
        type=int,
        default=0,
        help="sampled frames between clips (default: clip frames, no overlap)",
    )
    add(
        "--stride-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds between clips instead, in videos of whatever frame rate; each clip begins at the nearest frame",
    )
    add(
        "--fps",
        type=_rate,
        default=0.0,
        metavar="native|F",
        help="sample F frames per second by time stamp, or take every frame (default: native)",
    )
    add("--size", type=int, default=0, help="side of the square input in pixels (default: as trained)")
    add("--short-side", type=int, default=0, help="resize to this before cropping (default: size * 8/7)")
    add("--crop", choices=CROPS, default="centre", help="three: mean of three crops along the longer side")
    add(
        "--layers",
        metavar="NAME,…",
        help=f"read all of these in one pass, each into DEST/<name>/ (with - for :): {READOUTS}. Default: output, "
        "into DEST itself",
    )
    add(
        "--keep-tokens",
        action="store_true",
        help="keep the tokens behind each pooled feature too: [T, places, C] in DEST/tokens/, DEST/tokens-K/",
    )
    add(
        "--precision",
        choices=list(PRECISIONS),
        default="fp32",
        help="of the forward pass, by autocast (default: fp32)",
    )
    add(
        "--dtype", choices=DTYPES, default="float32", help="of the arrays that are written (default: float32)"
    )
    add("--batch", type=int, default=16, help="clips per forward pass, of several videos (default: 16)")
    add(
        "--workers",
        type=int,
        default=0,
        help="videos decoded at a time per rank (default: 1 on a CPU, else the rank's share of the cores, at most 8)",
    )
    add("--threads", type=int, default=1, help="decoding threads per video (default: 1)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto, one GPU per rank)")
    add(
        "--format",
        action="append",
        choices=["npy", *FORMATS],
        metavar="NAME",
        default=[],
        help=f"write this too, below DEST/<format>/: {', '.join(sorted(FORMATS))}; repeatable",
    )
    add("--annotations", help="ActivityNet-style JSON whose subsets and segments the formats carry along")
    add("--overwrite", action="store_true", help="replace features made with other settings")
    add("--json", action="store_true", help="one JSON object on stdout, no progress")
    add("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.set_rare(*_RARE)
    return parser


def _rate(text: str) -> float:
    return 0.0 if text == "native" else float(text)
