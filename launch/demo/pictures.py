"""The demonstration's pictures, drawn from what was really trained on and from the trained encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pal_ds.config import Config
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.loader import GroupLoader
from pal_ds.data.synthesis.render import render
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.viz.filmstrip import Strip, film_strips
from pal_ds.viz.report_page import Picture
from pal_ds.viz.similarity import MIRRORED, similarity_figure
from pal_ds.viz.similarity_plot import draw

_VIEWS = ("query", "key")


def training_pairs(config: Config, *, count: int = 4) -> Picture:
    """Draw the first synthetic pairs of the run, as the model saw them."""
    loader = GroupLoader(
        config.data.sources,
        data=config.data,
        synthesis=config.synthesis,
        augment=config.augment,
        seed=config.run.seed,
        rank=0,
        world_size=1,
    )
    try:
        micro = next(iter(loader)).clone()
    finally:
        loader.close()
    group = micro.groups[0]
    views = _pixels(micro, config)
    pairs = [
        (_strip(views, group, video, 0, config), _strip(views, group, video, 1, config))
        for video in range(min(count, len(group)))
    ]
    return Picture(
        data=film_strips(pairs, title="Synthetic training pairs, as the network sees them"),
        alt=f"{len(pairs)} pairs of film strips, the pasted action marked in each",
        see="Each pair holds one action, cut from a real video and pasted into two other videos, at another "
        "place, length and speed; colours and crops differ on purpose. The frame marks the pasted region.",
        good="the marked clips of a pair show the same action; everything around them differs",
        bad="a marked region that shows only background, or two equal strips",
    )


def similarity_picture(video: Path, checkpoint: str, *, action: tuple[float, float], title: str) -> Picture:
    """Draw the paper's Fig. 3 for a held-out video: the trained encoder above the same one before training."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(video), seek_mode="exact", num_ffmpeg_threads=1)
    fps = float(decoder.metadata.average_fps or 25.0)
    backbone, spec = load_backbone(checkpoint)
    untrained, _ = load_backbone(f"{checkpoint}/untrained.safetensors")
    figure = similarity_figure(
        lambda numbers: decoder.get_frames_at(indices=list(numbers)).data,
        frames=len(decoder),
        fps=fps,
        action=action,
        encode={"trained": ClipEncoder(backbone, spec), "untrained": ClipEncoder(untrained, spec)},
        clip_frames=spec.clip_frames,
        alteration=MIRRORED,
    )
    return Picture(
        data=draw(figure, title=title),
        alt="similarity matrices of a video against rearranged versions of itself",
        see="Each square compares the moments of a held-out video (up) with those of a rearranged version (across): "
        "the marked action plays faster and earlier, or slower and later, and every frame is mirrored and paler. "
        "The outlined path is where equal moments meet.",
        good="a bright path along the outline, brighter in the upper row (trained) than in the lower",
        bad="stripes or an even colour: the encoder sees one scene, but not what happens in it when",
    )


def _pixels(micro: MicroBatch, config: Config) -> np.ndarray:
    """Return the rendered views as uint8 [2, B, J, T, H, W, 3], normalisation undone."""
    rendered = render(micro, config.synthesis, config.augment)
    query, key = rendered["query_bjcthw"], rendered["key_bjcthw"]
    assert query is not None and key is not None, "the demonstration's objective has two views"
    both = torch.stack([query, key]).movedim(3, -1)
    std, mean = torch.tensor(config.augment.std), torch.tensor(config.augment.mean)
    found: np.ndarray = ((both * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return found


def _strip(views: np.ndarray, group: Group, video: int, view: int, config: Config) -> Strip:
    start, length = (int(value) for value in group.region[video, view])
    info = group.info[video]
    background = int(group.pairs[video, view])
    lent = group.info[background] if background >= 0 else None
    return Strip(
        frames_jthwc=views[view, video],
        region=(start, length),
        beta=float(group.beta[video, view, start]),
        stride=int(info["stride"][view]),
        background_stride=int(lent["background_stride"]) if lent else None,
        name=_VIEWS[view],
        action=_short(info["source"]),
        background=_short(lent["source"]) if lent else "",
    )


def _short(source: str) -> str:
    return source.rsplit("/", 1)[-1][:40]
