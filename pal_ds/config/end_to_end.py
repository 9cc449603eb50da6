"""Options of ``pal-transfer --task e2e``: encoder and head trained together on low-resolution video (LoFi)."""

from __future__ import annotations

import dataclasses

from pal_ds.config.base import ConfigError, check, option
from pal_ds.config.heads import HeadConfig, MapHeadConfig
from pal_ds.config.transfer import PostConfig, TransferOptimizer, TransferRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndToEndData:
    """Untrimmed videos, their annotations, and who reads them."""

    videos: str = option("", "folder URL of untrimmed videos <id>.mp4 or v_<id>.mp4, or a shard set of them")
    annotations: str = option("", "ground truth: official JSON, or TSP's CSV")
    evaluate_annotations: str = option("", "ground truth of the evaluated subset; empty: data.annotations")
    train_subset: str = option("training", "subset of the JSON to train on; no effect on .csv files")
    evaluate_subset: str = option("validation", "subset of the JSON to score on; no effect on .csv files")
    missing: float = option(0.05, "share of annotated videos that may be absent before the run is refused")
    class_scores: str = option(
        "",
        'video-level class scores, {"results": {video: [{label, score}]}} or the CUHK form, which make proposals '
        "detections (mAP); empty: proposals are scored (AR@AN, AUC)",
    )
    workers: int = option(4, "processes that read and decode; 0 decodes in the training process")

    def __post_init__(self) -> None:
        check(bool(self.videos), "data.videos", self.videos, "give the folder of untrimmed videos")
        check(bool(self.annotations), "data.annotations", self.annotations, "give the ground-truth file")
        check(0 <= self.missing < 1, "data.missing", self.missing, "use a share in [0, 1)")
        check(self.workers >= 0, "data.workers", self.workers, "use 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder that trains along, and the fidelity of what it sees."""

    backbone: str = option(
        "",
        "RUN folder, checkpoint or exported backbone.safetensors to start from; random:NAME starts from nothing",
    )
    size: int = option(56, "side of the square frames in pixels: the spatial fidelity (LoFi: 56 for 224)")
    frames: int = option(8, "frames of a snippet; head.snippets is the temporal fidelity")
    stride: int = option(1, "frames between two frames of a snippet; less where a video is too short")
    recompute_stages: int = option(
        0, "how many of the backbone's stages keep their input alone and are run again in the backward pass"
    )

    def __post_init__(self) -> None:
        check(bool(self.backbone), "encoder.backbone", self.backbone, "give weights, or random:tsm_resnet18")
        check(self.size >= 16, "encoder.size", self.size, "use 16 pixels or more")
        for name in ("frames", "stride"):
            check(getattr(self, name) >= 1, f"encoder.{name}", getattr(self, name), "use at least 1")
        check(
            self.recompute_stages >= 0,
            "encoder.recompute_stages",
            self.recompute_stages,
            "use 0 or a stage count",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndToEndConfig:
    """A whole end-to-end run."""

    run: TransferRun
    data: EndToEndData
    encoder: EncoderConfig
    head: HeadConfig
    optimizer: TransferOptimizer
    post: PostConfig
    tiou: str = option(
        "", "thresholds START:STOP:STEP of the evaluation; empty: the task's own (pal-eval --help)"
    )

    def __post_init__(self) -> None:
        if not isinstance(self.head, MapHeadConfig):
            raise ConfigError("head.name", self.head.name, "e2e trains map heads; use gtad or bmn")
