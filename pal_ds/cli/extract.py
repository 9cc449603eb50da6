"""The command ``pal-extract``, in a checkout ``launch/extract.py``: arguments, progress, exit status."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pal_ds import __version__, storage
from pal_ds.cli import import_features
from pal_ds.config.base import ConfigError
from pal_ds.distributed.launcher import Place, meeting_point, read_place
from pal_ds.distributed.peers import Peers, pick_device
from pal_ds.formats.backbone_file import BackboneError
from pal_ds.formats.feature_folder import FeatureError, FeatureStore
from pal_ds.formats.shardset import ShardSetError
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.datasets.annotation_rows import read_database
from pal_ds.transfer.extraction.destination import (
    claim_destinations,
    finished_everywhere,
    readout_url,
    write_errors,
)
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.frozen_encoder import CROPS, PRECISIONS, ClipEncoder
from pal_ds.transfer.extraction.options import DTYPES, ExtractOptions
from pal_ds.transfer.extraction.pipeline.throughput import sentence, summary
from pal_ds.transfer.extraction.progress import ExtractProgress
from pal_ds.transfer.extraction.readouts import HELP as READOUTS
from pal_ds.transfer.extraction.tally import Tally, VideoFailure
from pal_ds.transfer.extraction.video_source import VideoSourceError, deal_videos, list_videos
from pal_ds.transfer.feature_formats import FORMATS

DONE, FAILED, USAGE, WITH_ERRORS = 0, 1, 2, 3

_EXAMPLES = """
examples
  A run's newest checkpoint over a folder of videos, on this machine:
    pal-extract --checkpoint runs/pal-1 --videos videos/ --out features/

  ActivityNet as in the paper's tables: constant rate, clips that don't overlap, files for G-TAD and BMN:
    deepspeed --module pal_ds.cli.extract --checkpoint s3://bucket/runs/pal-1 --videos s3://bucket/anet/ \\
      --out s3://bucket/features/anet --fps 15 --format anet-hdf5 --format bmn-csv \\
      --annotations activity_net.v1-3.json

  THUMOS'14: dense features, every frame, a stride of 4, files for OpenTAD and ActionFormer:
    deepspeed --module pal_ds.cli.extract --checkpoint backbone.safetensors --videos thumos/ --out features/thumos \\
      --stride 4 --format opentad --format actionformer --annotations thumos14.json

  A transformer's last layers, pooled and as tokens, four times a second, in half precision:
    pal-extract --checkpoint backbone.safetensors --videos videos/ --out features/ --stride-seconds 0.25 \
      --layers output,layer:-3,last4 --keep-tokens --precision bf16 --dtype float16 --batch 64

  Two processes without a GPU; a shard set's val split:
    deepspeed --num_accelerators 2 --module pal_ds.cli.extract --checkpoint runs/pal-1 \\
      --videos s3://bucket/k400-shards --split val --out features/val --device cpu

  Features made elsewhere into the same form:
    pal-extract import --help

what is written
  DEST/v_<id>.npy    [T, C], float32 or what --dtype says; <id> is the file's stem, or the sample's key in a shard
                     set
  DEST/v_<id>.json   fps, clip_frames, stride, offset, duration, frames, checkpoint digest, …
                     feature t is centred at (t * stride + clip_frames / 2) / fps seconds
  DEST/extract.json  the settings all files share; other settings need another folder or --overwrite
  DEST/errors.jsonl  a line for every video that could not be read (absent if there is none)
  DEST/<format>/     what --format adds
  DEST/<layer>/      with --layers all of this but errors.jsonl for each, in place of DEST itself

  Frames after the last whole clip are left out. A video shorter than one clip gives one feature, its last
  frame repeated. Stop it when you like: finished videos are never done twice.

exit status: 0 all videos have features; 3 some failed, see errors.jsonl; 2 bad usage; 1 failed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Launchers put --local_rank before everything else.
    if [word for word in words if not word.startswith("--local")][:1] == ["import"]:
        return import_features.main(words[words.index("import") + 1 :])
    arguments = _parser().parse_args(words)
    try:
        return _run(arguments)
    except (ConfigError, BackboneError, VideoSourceError, ShardSetError, FeatureError) as error:
        return _say(error, USAGE)
    except storage.StorageError as error:
        refused = isinstance(error, (storage.StorageAccessError, storage.StorageNotFoundError))
        return _say(error, USAGE if refused else FAILED)
    except torch.OutOfMemoryError as error:
        first = str(error).split(". ")[0]
        return _say(f"--batch = {arguments.batch}: {first}; use a smaller one", FAILED)
    except KeyboardInterrupt:
        return _say("stopped; run the same command again to go on", 130)


def _run(arguments: argparse.Namespace) -> int:
    place = read_place()
    meeting_point(place)  # what is missing is said before anything is loaded
    device = pick_device(arguments.device, place)
    options = ExtractOptions(
        clip_frames=arguments.clip_frames,
        stride=arguments.stride,
        stride_seconds=arguments.stride_seconds,
        fps=arguments.fps,
        size=arguments.size,
        short_side=arguments.short_side,
        crop=arguments.crop,
        layers=tuple(filter(None, (arguments.layers or "").split(","))),
        keep_tokens=arguments.keep_tokens,
        precision=arguments.precision,
        dtype=arguments.dtype,
        batch=arguments.batch,
        workers=arguments.workers,
        threads=arguments.threads,
    )
    database = _read_annotations(arguments.annotations, arguments.format)
    backbone, spec = load_backbone(arguments.checkpoint)
    try:
        encoder = ClipEncoder(
            backbone,
            spec,
            device=device,
            size=options.size,
            short_side=options.short_side,
            crop=options.crop,
            precision=options.precision,
            readouts=options.readouts(),
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("--short-side", options.short_side, str(error)) from error
    videos = list_videos(arguments.videos, split=arguments.split)
    started = time.monotonic()
    with Peers(place) as peers:
        settings = options.settings(encoder)
        if place.rank == 0:
            claim_destinations(arguments.out, settings, overwrite=arguments.overwrite)
        peers.gather(None)
        mine = deal_videos(videos, place.rank, place.world_size)
        finished = finished_everywhere(arguments.out, list(settings))
        with ExtractProgress(mine, finished, visible=place.rank == 0 and not arguments.json) as progress:
            tally = extract_videos(
                mine, encoder, arguments.out, options, finished=finished, on_video=progress.advance
            )
        tallies = peers.gather(tally)
        total = _add_up(tallies)
        if place.rank == 0:
            write_errors(arguments.out, total.failures)
            for readout in encoder.readouts:
                if readout.pooled:
                    _write_formats(readout_url(arguments.out, readout, options), arguments.format, database)
            times = summary([each.figures for each in tallies if each.figures])
            _report(total, len(videos), time.monotonic() - started, times, place, arguments)
        peers.gather(None)
    return WITH_ERRORS if total.failures else DONE


def _write_formats(out_url: str, names: Sequence[str], database: Mapping[str, Any]) -> None:
    wanted = [name for name in dict.fromkeys(names) if name != "npy"]
    if not wanted:
        return
    features = FeatureStore(out_url)
    for name in wanted:
        FORMATS[name].write(features, storage.join(out_url, name), database)


def _read_annotations(url: str | None, formats: Sequence[str]) -> dict[str, Any]:
    if url is None:
        return {}
    if not set(formats) - {"npy", "lgi"}:
        raise ConfigError("--annotations", url, "has no effect without a --format that holds annotations")
    return read_database(url)


def _add_up(tallies: Sequence[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.written += tally.written
        total.skipped += tally.skipped
        total.clips += tally.clips
        total.failures += tally.failures
        total.warnings += tally.warnings
    return total


def _report(
    total: Tally,
    videos: int,
    seconds: float,
    times: dict[str, Any],
    place: Place,
    arguments: argparse.Namespace,
) -> None:
    for line in total.warnings:
        sys.stderr.write(f"warning: {line}\n")
    out = storage.redact(arguments.out)
    if arguments.json:
        summary = {
            "out": out,
            "videos": videos,
            "written": total.written,
            "skipped": total.skipped,
            "failed": len(total.failures),
            "clips": total.clips,
            "seconds": round(seconds, 3),
            "ranks": place.world_size,
            "formats": list(dict.fromkeys(["npy", *arguments.format])),
            **times,
        }
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    sys.stdout.write(
        f"{videos} videos: {total.written} extracted ({total.clips} features), "
        f"{total.skipped} finished before, {len(total.failures)} failed; features in {out}\n"
    )
    if total.clips:
        sys.stdout.write(f"{sentence(times)}\n")
    if total.failures:
        where = storage.redact(storage.join(arguments.out, "errors.jsonl"))
        first = min(total.failures, key=lambda failure: failure.id)
        sys.stdout.write(f"failed videos are listed in {where}; first: {_describe(first)}\n")


def _describe(failure: VideoFailure) -> str:
    return f"{failure.source}: {failure.error}"


def _say(error: object, status: int) -> int:
    sys.stderr.write(f"extract: {error}\n")
    return status


def _rate(text: str) -> float:
    return 0.0 if text == "native" else float(text)


def _parser() -> argparse.ArgumentParser:
    formats = "\n".join(
        f"  {name:<13} {entry.readers}: {entry.files}" for name, entry in sorted(FORMATS.items())
    )
    parser = argparse.ArgumentParser(
        prog="pal-extract",
        description="Turn untrimmed videos into feature sequences with a frozen, pre-trained backbone.",
        epilog=f"formats besides npy\n{formats}\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action="version", version=f"pal-extract {__version__}")
    add(
        "--checkpoint",
        required=True,
        help="run folder, checkpoint folder or backbone.safetensors; path or URL",
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
        default=[],
        help="write this too, below DEST/<format>/; may be given several times",
    )
    add("--annotations", help="ActivityNet-style JSON whose subsets and segments the formats carry along")
    add("--overwrite", action="store_true", help="replace features made with other settings")
    add("--json", action="store_true", help="one JSON object on stdout, no progress")
    add("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
