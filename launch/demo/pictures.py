"""The demonstration's picture of a held-out video, drawn by the trained encoder and by the untrained one."""

from __future__ import annotations

from pathlib import Path

from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from pal_ds.viz.report_page import Picture
from pal_ds.viz.similarity import MIRRORED, similarity_figure
from pal_ds.viz.similarity_plot import draw


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
        data=draw(figure, title=title, kind="webp"),
        alt="similarity matrices of a video against rearranged versions of itself",
        see="Each square compares the moments of a held-out video (up) with those of a rearranged version (across): "
        "the marked action plays faster and earlier, or slower and later, and every frame is mirrored and paler. "
        "The outlined path is where equal moments meet.",
        good="a bright path along the outline, brighter in the upper row (trained) than in the lower",
        bad="stripes or an even colour: the encoder sees one scene, but not what happens in it when",
    )
