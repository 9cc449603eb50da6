"""A small head, really trained on features of real videos, and the model exported from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pal_ds.config.loading import build
from pal_ds.config.transfer import TransferConfig
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.destination import claim_destinations
from pal_ds.transfer.extraction.extractor import extract_videos
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.extraction.video_source import list_videos
from pal_ds.transfer.head_trainer import train
from pal_ds.transfer.localize.export import ExportOptions, export_model
from pal_ds.transfer.localize.sampling import encoder_of, features_folder
from tests.support.extract_fixtures import ffmpeg, write_checkpoint

SECONDS = 8.0
SAMPLING = ExtractOptions(stride=4)
HEADS: dict[str, dict[str, Any]] = {
    "gtad": {"snippets": 24, "durations": 24, "hidden_1d": 32, "hidden_2d": 8, "hidden_3d": 16},
    "actionformer": {"snippets": 24, "hidden": 16, "levels": 3, "window": 5},
}


@dataclass(frozen=True)
class Trained:
    """What was made: the encoder's checkpoint, videos with features and truth, the head's run, the model."""

    encoder: Path
    videos: Path
    features: Path
    truth: Path
    run: Path
    model: Path

    def predictions(self) -> dict[str, list[dict[str, Any]]]:
        """What the run's own evaluation predicted."""
        found: dict[str, list[dict[str, Any]]] = json.loads((self.run / "predictions.json").read_text())[
            "results"
        ]
        return found


def make_action_video(
    path: Path, *, start: float, end: float, seconds: float = SECONDS, size: str = "96x64"
) -> Path:
    """Encode a still test picture (with a tone) that moves between two moments, as a browser plays it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moving = f"if(between(t,{start},{end}),mod(40*t,30),0)"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=1:duration=1", "-vf",
           f"loop=-1:1:0,setpts=N/25/TB,fps=25,rotate='{moving}/10',format=yuv420p", "-t", str(seconds),
           "-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-movflags", "+faststart", str(path))  # fmt: skip
    return path


def train_model(
    folder: Path, *, head: str = "gtad", task: str = "tad", sampling: ExtractOptions = SAMPLING, **data: Any
) -> Trained:
    """Make videos, features, a head of one epoch and the model."""
    made = make_run(folder, head=head, task=task, sampling=sampling, **data)
    export_model(str(made.run), str(made.encoder), str(made.model), ExportOptions(), {"pal_ds": "test"})
    return made


def make_run(
    folder: Path, *, head: str = "gtad", task: str = "tad", sampling: ExtractOptions = SAMPLING, **data: Any
) -> Trained:
    """Make all but the model."""
    encoder = write_checkpoint(folder / "encoder")
    videos, features, truth = folder / "videos", folder / "features", folder / "truth.json"
    database = {}
    for number, (start, end) in enumerate(((1.0, 3.0), (2.5, 6.0), (4.0, 7.0))):
        make_action_video(videos / f"v_clip{number}.mp4", start=start, end=end)
        rows = [{"segment": [start, end], "label": ("a <b>& turn", "jump")[number % 2]}]
        database[f"clip{number}"] = {"subset": "training", "duration": SECONDS, "annotations": rows}
    truth.write_text(json.dumps({"database": database}))
    backbone, spec = load_backbone(str(encoder))
    frozen = encoder_of(backbone, spec, sampling)
    claim_destinations(str(features), sampling.settings(frozen))
    extract_videos(list_videos(str(videos)), frozen, str(features), sampling)
    features = features / features_folder(sampling)
    run = folder / "run"
    tree = {
        "run": {"dir": str(run), "epochs": 1, "device": "cpu"},
        "data": {
            **{"features": str(features), "annotations": str(truth), "evaluate_subset": "training"},
            **data,
        },
        "head": {**HEADS[head], "name": head},
        "optimizer": {"lr": 1e-3, "batch": 2},
        "post": {"keep": 20, "boundary": "none"},
    }
    train(task, build(TransferConfig, tree))
    return Trained(encoder, videos, features, truth, run, folder / "model")
