"""The command ``pal-extract``, in a checkout ``launch/extract.py``: arguments, progress, exit status."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pal_ds import storage
from pal_ds.cli import import_features
from pal_ds.cli.extract_arguments import build_parser
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
from pal_ds.transfer.extraction.options import ExtractOptions, encoder_for
from pal_ds.transfer.extraction.pipeline.throughput import sentence, summary
from pal_ds.transfer.extraction.progress import ExtractProgress
from pal_ds.transfer.extraction.tally import Tally
from pal_ds.transfer.extraction.video_source import VideoSourceError, deal_videos, list_videos
from pal_ds.transfer.feature_formats import FORMATS

DONE, FAILED, USAGE, WITH_ERRORS = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Launchers put --local_rank before everything else.
    if [word for word in words if not word.startswith("--local")][:1] == ["import"]:
        return import_features.main(words[words.index("import") + 1 :])
    arguments = build_parser().parse_args(words)
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
    if set(arguments.format) - {"npy"} and not any(readout.pooled for readout in options.readouts()):
        raise ConfigError(
            "--format", arguments.format[0], "has no effect on tokens alone; add a pooled --layers"
        )
    database = _read_annotations(arguments.annotations, arguments.format)
    backbone, spec = load_backbone(arguments.checkpoint)
    encoder = encoder_for(backbone, spec, options, device)
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
        sys.stdout.write(f"failed videos are listed in {where}; first: {first.told}\n")


def _say(error: object, status: int) -> int:
    sys.stderr.write(f"extract: {' '.join(str(error).split())}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
