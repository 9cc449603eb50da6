"""The paper's Fig. 3 for any encoder and any annotated video: ``python -m pal_ds.viz.figure3``.

Every chosen video is rearranged (its action faster and earlier, slower and later, every frame looking different), and
the encoder has to find the action again. The means over all videos are printed and kept as JSON, a few videos are
drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.viz.comparison import Comparison
from pal_ds.viz.report_page import Picture, ReportData, Section, Table, write_report
from pal_ds.viz.similarity import MIRRORED, Encode, SimilarityFigure, similarity_figure

FIGURES = ("found", "chance", "action_contrast", "localised", "localised_chance")
#: An action shorter than so many clips can't be told from its surroundings at twice the speed.
FEWEST_CLIPS = 2
_EXAMPLES = """
examples
  A trained run beside random weights, on all annotated validation videos:
    python -m pal_ds.viz.figure3 --checkpoint runs/pal --checkpoint random:i3d --videos anet/ \\
      --annotations activity_net.v1-3.min.json --out figure3/

  One video, its action given by hand:
    python -m pal_ds.viz.figure3 --checkpoint backbone.safetensors --videos street.mp4 --action 3.1 5.6 --out figure3/

exit status: 0 done; 2 bad usage; 1 failed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    from pal_ds.formats.backbone_file import BackboneError
    from pal_ds.transfer.datasets.annotations import AnnotationError
    from pal_ds.transfer.extraction.video_source import VideoSourceError

    try:
        document = run(arguments)
    except (ConfigError, BackboneError, AnnotationError, VideoSourceError) as error:
        sys.stderr.write(f"figure3: {error}\n")
        return 2
    except storage.StorageError as error:
        sys.stderr.write(f"figure3: {error}\n")
        return 1
    sys.stdout.write(json.dumps(document) + "\n" if arguments.json else _lines(document))
    return 0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, draw, and write ``index.html`` and ``figure3.json`` into ``--out``; returns the latter."""
    encoders, clip_frames = _encoders(arguments.checkpoint, arguments.size, arguments.device)
    chosen = _choose(arguments)
    found: dict[str, list[Comparison]] = {name: [] for name in encoders}
    pictures: list[Section] = []
    skipped: list[str] = []
    for source, video, action in chosen:
        try:
            figure = _measure(source, action, encoders, clip_frames, same_looks=arguments.same_looks)
        except ValueError as error:  # too short, or nothing but action: there is no place to move it to
            skipped.append(f"{video}: {error}")
            continue
        for name, comparisons in figure.comparisons.items():
            found[name] += comparisons
        if len(pictures) < arguments.draw:
            pictures.append(Section(title=video, picture=_picture(figure, video)))
    if len(skipped) == len(chosen):
        raise ConfigError(
            "--videos", storage.redact(arguments.videos), f"none can be rearranged; {skipped[0]}"
        )
    document = {
        "videos": len(chosen) - len(skipped),
        "skipped": skipped,
        "same_looks": bool(arguments.same_looks),
        "encoders": {name: means(comparisons) for name, comparisons in found.items()},
    }
    storage.make_folder(arguments.out)
    storage.write_bytes(storage.join(arguments.out, "figure3.json"), json.dumps(document, indent=1).encode())
    write_report(_page(document, pictures), storage.join(arguments.out, "index.html"))
    return document


def means(comparisons: Sequence[Comparison]) -> dict[str, float | None]:
    """Average each figure over the comparisons that have it; None where none has."""
    table = np.array([[getattr(one, name) for name in FIGURES] for one in comparisons], dtype=np.float64)
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return {
        name: float(total[number] / count[number]) if count[number] else None
        for number, name in enumerate(FIGURES)
    }


def _encoders(checkpoints: Sequence[str], size: int, device: str) -> tuple[dict[str, Encode], int]:
    from pal_ds.distributed.launcher import Place
    from pal_ds.distributed.peers import pick_device
    from pal_ds.transfer.backbone_export import load_backbone
    from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder

    encoders: dict[str, Encode] = {}
    frames: list[tuple[int, int]] = []
    for checkpoint in checkpoints:
        backbone, spec = load_backbone(checkpoint)
        # Random weights are trained on no size: they see what the first encoder sees.
        wanted = size or (frames[0][1] if frames else spec.size)
        name = storage.redact(checkpoint).rstrip("/").rsplit("/", 1)[-1]
        if name in encoders:
            name = storage.redact(checkpoint)
        encoders[name] = ClipEncoder(backbone, spec, size=wanted, device=pick_device(device, Place()))
        frames.append((spec.clip_frames, wanted))
    if len({clip for clip, _ in frames}) > 1:
        raise ConfigError("--checkpoint", list(encoders), "give encoders with clips of the same length")
    return encoders, frames[0][0]


def _choose(arguments: argparse.Namespace) -> list[tuple[Any, str, tuple[float, float]]]:
    """Return source, name and action of every video that is measured: its longest action is taken."""
    from pal_ds.transfer.datasets.detection import read_detection
    from pal_ds.transfer.extraction.video_source import list_videos, open_video

    videos = list_videos(arguments.videos)
    if arguments.action:
        if len(videos) != 1:
            raise ConfigError("--action", arguments.action, f"goes with one video, here are {len(videos)}")
        return [(open_video(videos[0]), videos[0].id, tuple(arguments.action))]
    if not arguments.annotations:
        raise ConfigError("--annotations", "", "give a ground-truth file, or --action START END")
    known = {video.id: video for video in videos}
    chosen = []
    for annotation in read_detection(arguments.annotations, arguments.subset):
        if annotation.video in known and annotation.segments:
            longest = max(annotation.segments, key=lambda segment: segment.end - segment.start)
            video = known[annotation.video]
            chosen.append((open_video(video), video.id, (longest.start, longest.end)))
    if not chosen:
        problem = (
            f"none of its videos of subset {arguments.subset!r} is in {storage.redact(arguments.videos)}"
        )
        raise ConfigError("--annotations", arguments.annotations, problem)
    return chosen[: arguments.count or None]


def _measure(
    source: Any,
    action: tuple[float, float],
    encoders: Mapping[str, Encode],
    clip_frames: int,
    *,
    same_looks: bool,
) -> SimilarityFigure:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(source, seek_mode="exact", num_ffmpeg_threads=1)
    fps = float(decoder.metadata.average_fps or 25.0)
    shortest = FEWEST_CLIPS * clip_frames / fps
    if action[1] - action[0] < shortest:
        middle = sum(action) / 2
        action = (max(0.0, middle - shortest / 2), middle + shortest / 2)
    return similarity_figure(
        lambda numbers: decoder.get_frames_at(indices=list(numbers)).data,
        frames=len(decoder),
        fps=fps,
        action=action,
        encode=encoders,
        clip_frames=clip_frames,
        alteration=None if same_looks else MIRRORED,
    )


def _picture(figure: SimilarityFigure, video: str) -> Picture:
    from pal_ds.viz.similarity_plot import draw

    return Picture(
        data=draw(figure, title=video, kind="webp"),
        alt=f"similarity matrices of video {video} against rearranged versions of itself, a row for each encoder",
        see="Each square compares the moments of a video (down) with those of a rearranged version (across). "
        "The dashed line is where equal moments meet, the frame is the action.",
        good="a bright path along the dashed line within the frame",
        bad="stripes or an even colour: one scene is seen, but not what happens in it when",
    )


def _page(document: Mapping[str, Any], pictures: Sequence[Section]) -> ReportData:
    rows = tuple(
        (name, *(_percent(figures[key]) for key in FIGURES)) for name, figures in document["encoders"].items()
    )
    header = (
        "encoder",
        "clips found again, %",
        "blind guess",
        "stands out by",
        "action localised, IoU %",
        "blind guess",
    )
    text = (
        "Means over all measured videos and both versions. Found again: share of the version's action clips whose "
        "most similar original clip shows the same moment. Stands out: mean cosine of equal moments minus that of "
        "others, times 100. Localised: overlap of the true place with the stretch most similar to the original "
        "action."
    )
    return ReportData(
        title="Is an action found again, faster or slower, at another place?",
        subtitle=f"{document['videos']} annotated videos, each against two rearranged versions of itself.",
        sections=(
            Section(title="Figures", text=text, table=Table(header=header, rows=rows)),
            *pictures,
        ),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _lines(document: Mapping[str, Any]) -> str:
    lines = [f"{document['videos']} videos, {len(document['skipped'])} that can't be rearranged"]
    for name, figures in document["encoders"].items():
        shown = ", ".join(f"{key.replace('_', ' ')} {_percent(value)}" for key, value in figures.items())
        lines.append(f"{name}: {shown}")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pal_ds.viz.figure3",
        description="Is an action found again at another speed and place? Measured and drawn for any encoder.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        action="append",
        required=True,
        help="run, checkpoint, backbone.safetensors or random:NAME; repeatable",
    )
    add("--videos", required=True, help="folder, URL prefix, one video file, or a shard set")
    add(
        "--annotations",
        default="",
        help="ground truth in ActivityNet's form; the longest action of a video is taken",
    )
    add("--subset", default="validation", help="subset of the annotations (default: validation)")
    add("--action", nargs=2, type=float, metavar=("START", "END"), help="the action of one video, seconds")
    add("--count", type=int, default=0, help="measure so many videos (default: all)")
    add("--draw", type=int, default=3, help="draw so many of them (default: 3)")
    add("--size", type=int, default=0, help="side of the square input in pixels (default: as trained)")
    add(
        "--same-looks",
        action="store_true",
        help="leave the frames as they are; else they are mirrored and paler",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add("--out", required=True, help="folder or URL for index.html and figure3.json")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
