"""The command ``pal-localize``: the actions of new videos, as data, subtitles and pages."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import torch

from pal_ds import storage
from pal_ds.command_line.parser import CommandParser, Example
from pal_ds.config.base import ConfigError
from pal_ds.distributed.launcher import meeting_point, read_place
from pal_ds.distributed.peers import Peers, pick_device
from pal_ds.formats import exit_status
from pal_ds.formats.backbone_file import BackboneError
from pal_ds.transfer.extraction.destination import write_errors
from pal_ds.transfer.extraction.tally import VideoFailure
from pal_ds.transfer.extraction.video_source import deal_videos, list_videos
from pal_ds.transfer.localize.destination import INDEX_NAME, claim, finished, sum_up
from pal_ds.transfer.localize.errors import ModelError
from pal_ds.transfer.localize.localizer import LocalizeOptions, Localizer, Outcome, gather_videos
from pal_ds.transfer.localize.model_folder import load_model
from pal_ds.transfer.localize.progress import LocalizeProgress
from pal_ds.transfer.localize.sampling import encoder_of, options_of

_INTERRUPTED = 130
_EXAMPLES = (
    Example(
        "one video, results in ./localized; open localized/index.html",
        "pal-localize holiday.mp4 --model models/anet",
    ),
    Example(
        "a folder and a bucket, only what is rather sure, at most ten actions a video",
        "pal-localize videos/ s3://bucket/talks/ --model s3://bucket/models/anet --out found/ "
        "--threshold 0.4 --top 10",
    ),
    Example(
        "a page that can be mailed: the video is inside (up to 16 MiB)",
        "pal-localize holiday.mp4 --model models/anet --embed",
    ),
    Example(
        "many videos without pages, on every GPU of a machine",
        "deepspeed --module pal_ds.cli.localize s3://bucket/videos/ --model models/anet "
        "--out s3://bucket/found --no-page",
    ),
)
_DETAILS = """
what is written:
  DIR/index.html          all videos
  DIR/results.json        all actions in ActivityNet's form, as pal-eval reads it
  DIR/actions.csv         the same as a table
  DIR/actions/<id>.html   a page: player, timeline, list; a click on an action seeks to it
  DIR/actions/<id>.vtt    subtitles: actions from the threshold on
  DIR/actions/<id>.json   all actions of a video; <id>.csv the same as a table
  DIR/errors.jsonl        a line for every video that failed (absent if there is none)

Pages work offline. They link to local videos; of others, and of those that browsers don't play, a copy is made
beside the page. JSON and CSV hold all actions, subtitles and pages begin at the model's own threshold; with
--threshold everything does. Stop it when you like: finished videos are never done twice.
"""
_CLOSING = """
A model is made from a trained head by: pal-transfer export RUN --encoder E --out MODEL

exit status: 0 all videos are localized; 3 some failed, see errors.jsonl; 2 bad usage or model; 1 failed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        return _run(arguments)
    except (ConfigError, BackboneError, ModelError) as error:
        return _say(error, exit_status.REFUSED)
    except torch.OutOfMemoryError as error:
        first = str(error).split(". ")[0]
        return _say(f"--batch = {arguments.batch}: {first}; use a smaller one", exit_status.FAILED)
    except storage.StorageError as error:
        refused = isinstance(error, (storage.StorageAccessError, storage.StorageNotFoundError))
        return _say(error, exit_status.REFUSED if refused else exit_status.FAILED)
    except KeyboardInterrupt:
        return _say("stopped; run the same command again to go on", _INTERRUPTED)


def _run(arguments: argparse.Namespace) -> int:
    place = read_place()
    meeting_point(place)  # what is missing is said before anything is loaded
    device = pick_device(arguments.device, place)
    options = LocalizeOptions(
        threshold=arguments.threshold,
        top=arguments.top,
        pages=not arguments.no_page,
        embed=arguments.embed,
        thumbnails=arguments.thumbnails,
    )
    model = load_model(arguments.model)
    sampling = options_of(
        model.spec.sampling, batch=arguments.batch, workers=arguments.workers, threads=arguments.threads
    )
    encoder = encoder_of(model.backbone, model.backbone_spec, sampling, device)
    videos, unfound = gather_videos(arguments.videos, list_videos)
    if not videos:
        raise ConfigError("VIDEO", " ".join(failure.source for failure in unfound), unfound[0].error)
    started = time.monotonic()
    with Peers(place) as peers:
        if place.rank == 0:
            claim(arguments.out, options.settings(model), overwrite=arguments.overwrite)
        peers.gather(None)
        done = finished(arguments.out, videos)
        mine = [video for video in deal_videos(videos, place.rank, place.world_size) if video.id not in done]
        visible = place.rank == 0 and not arguments.json
        with LocalizeProgress(mine, model.backbone, sampling, visible=visible) as progress:
            outcome = Localizer(model, encoder, sampling, options, arguments.out).run(
                mine, lambda video, made: progress.advance(video, failed=isinstance(made, VideoFailure))
            )
        total = _add_up(peers.gather(outcome))
        total.failures += unfound
        if place.rank == 0:
            write_errors(arguments.out, total.failures)
            sum_up(arguments.out, total.failures, pages=options.pages)
            _report(total, len(videos) + len(unfound), len(done), time.monotonic() - started, arguments)
        peers.gather(None)
    return exit_status.REJECTS if total.failures else exit_status.DONE


def _add_up(outcomes: Sequence[Outcome]) -> Outcome:
    total = Outcome()
    for outcome in outcomes:
        total.localized += outcome.localized
        total.actions += outcome.actions
        total.clips += outcome.clips
        total.failures += outcome.failures
        total.warnings += outcome.warnings
    return total


def _report(total: Outcome, videos: int, before: int, seconds: float, arguments: argparse.Namespace) -> None:
    for line in total.warnings:
        sys.stderr.write(f"warning: {line}\n")
    out = storage.redact(arguments.out)
    index = "" if arguments.no_page else storage.join(out, INDEX_NAME)
    if arguments.json:
        summary = {
            "out": out,
            "videos": videos,
            "localized": total.localized,
            "skipped": before,
            "failed": len(total.failures),
            "actions": total.actions,
            "clips": total.clips,
            "seconds": round(seconds, 3),
            "page": index or None,
        }
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    sys.stdout.write(
        f"{videos} videos: {total.localized} localized ({total.actions} actions), {before} finished before, "
        f"{len(total.failures)} failed; {'open ' + index if index else 'results in ' + out}\n"
    )
    if total.failures:
        first = total.failures[0]
        where = storage.join(out, "errors.jsonl")
        sys.stdout.write(f"failed videos are listed in {where}; first: {first.told}\n")


def _say(error: object, status: int) -> int:
    sys.stderr.write(f"pal-localize: error: {' '.join(str(error).split())}\n")
    return status


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-localize",
        description="Find the actions of videos with a trained model: JSON, subtitles, CSV, and pages to look at.",
        examples=_EXAMPLES,
        details=_DETAILS,
        closing=_CLOSING,
        top=True,
    )
    parser.usage = "%(prog)s --model MODEL [options] VIDEO..."
    add = parser.add_argument
    add(
        "videos", nargs="+", metavar="VIDEO", help="video file, folder, URL, URL prefix or shard set; several"
    )
    add("--model", required=True, help="folder or URL that pal-transfer export wrote")
    add("--out", default="localized", metavar="DIR", help="folder or URL of the results (default: localized)")
    add("--threshold", type=float, metavar="S", help="leave out actions with lower scores, everywhere")
    add("--top", type=int, default=0, metavar="N", help="at most N actions of a video (default: all)")
    add("--embed", action="store_true", help="put videos up to 16 MiB into their pages")
    add("--no-page", action="store_true", help="write no pages")
    add(
        "--thumbnails",
        type=int,
        default=24,
        metavar="N",
        help="actions of a video with a picture (default: 24)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto, one GPU per rank)")
    add("--batch", type=int, default=16, help="clips per forward pass (default: 16)")
    add("--workers", type=int, default=0, help="videos decoded at a time per rank (default: by the device)")
    add("--threads", type=int, default=1, help="decoding threads per video (default: 1)")
    add("--overwrite", action="store_true", help="do all videos of DIR anew")
    add("--json", action="store_true", help="one JSON object on stdout, no progress")
    add("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.set_rare("--thumbnails", "--batch", "--workers", "--threads", "--overwrite", "--json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
