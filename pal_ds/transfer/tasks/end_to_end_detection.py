"""Detection with encoder and map head trained together on low-resolution video (LoFi, Xu et al., NeurIPS 2021).

The middle of LoFi's three stages: an encoder that was pre-trained goes on under the loss of localization itself, on
fewer pixels and snippets than it will see later. What it leaves is a backbone file, from which features are extracted
at full fidelity and on which a head is trained as always.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.end_to_end import EndToEndConfig
from pal_ds.config.heads import MapHeadConfig
from pal_ds.formats.backbone_file import BackboneSpec, backbone_bytes, weights_digest
from pal_ds.formats.feature_folder import VideoFeatures
from pal_ds.models.backbones.common import Backbone
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.datasets.annotations import AnnotationError, VideoAnnotation
from pal_ds.transfer.datasets.detection import read_detection
from pal_ds.transfer.extraction.video_source import VideoRef, list_videos
from pal_ds.transfer.heads.boundary_loss import map_loss
from pal_ds.transfer.heads.boundary_map import MapTargets, make_targets, valid_cells
from pal_ds.transfer.metrics.tiou import Floats
from pal_ds.transfer.random_backbone import PREFIX as RANDOM
from pal_ds.transfer.tasks.base import Results, Task
from pal_ds.transfer.tasks.boundary_map_detection import build_map_head
from pal_ds.transfer.tasks.class_scores import VideoScores
from pal_ds.transfer.tasks.low_fidelity_videos import LowFidelityVideos
from pal_ds.transfer.tasks.proposals import Maps, propose
from pal_ds.transfer.tasks.windows import Piece, whole

#: Under this name the trained backbone lies in the run folder.
BACKBONE = "backbone.safetensors"


class EndToEndNet(nn.Module):
    """An encoder of snippets and a map head on their features.

    Args:
        backbone: [B, 3, T, H, W] in, [B, C] out.
        head: features [B, C, N] in; maps, starts and ends out.
        spec: input statistics.
    """

    mean_c111: Tensor
    std_c111: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, spec: BackboneSpec) -> None:
        super().__init__()
        self.backbone, self.head = backbone.requires_grad_(True), head
        for name, values in (("mean_c111", spec.mean), ("std_c111", spec.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1, 1), persistent=False)

    def forward(self, clips_bncthw: Tensor) -> Any:
        """Score the candidates of uint8 videos [B, N, 3, T, H, W] as the head does."""
        scaled = (clips_bncthw.flatten(0, 1).float() / 255.0 - self.mean_c111) / self.std_c111
        features_bnc = self.backbone(scaled).view(*clips_bncthw.shape[:2], -1)
        return self.head(features_bnc.transpose(1, 2))


class EndToEndTask(Task):
    """Trains both, scores the head's proposals, and writes the backbone.

    Args:
        config: of the run.
        device: where it runs.

    Raises:
        ConfigError: videos or annotations don't fit.
        AnnotationError: an annotation file is malformed.
        BackboneError: the weights don't fit.
    """

    def __init__(self, config: EndToEndConfig, *, device: torch.device) -> None:
        data, head = config.data, config.head
        assert isinstance(head, MapHeadConfig)
        self.config, self.device, self.options = config, device, head
        self.head, self.tiou = head.name, config.tiou
        self.metric = "detection" if data.class_scores else "proposals"
        self.truth, self.subset = data.evaluate_annotations or data.annotations, data.evaluate_subset
        backbone, self.spec = load_backbone(_seeded(config.encoder.backbone, config.run.seed))
        assert isinstance(backbone, Backbone)
        stages = len(backbone.stages())
        if config.encoder.recompute_stages > stages:
            raise ConfigError(
                "encoder.recompute_stages",
                config.encoder.recompute_stages,
                f"{self.spec.backbone} has {stages} stages; use at most {stages}",
            )
        backbone.recomputed_stages = config.encoder.recompute_stages
        found = {video.id: video for video in list_videos(data.videos)}
        self.trained = self._present(found, data.annotations, data.train_subset, "training")
        self.evaluated = self._present(found, self.truth, self.subset, "evaluated")
        self.items = len(self.trained)
        self.training = self._videos(found, self.trained, seed=config.run.seed)
        self.scored = self._videos(found, self.evaluated, seed=None)
        self.targets = [self._targets(_piece(video, head.snippets)) for video in self.trained]
        valid = valid_cells(head.durations, head.snippets).astype(np.float32)
        self.valid_dt = torch.from_numpy(valid).to(device)
        network = build_map_head(head, self.spec.feature_dim)
        self.model = EndToEndNet(backbone, network, self.spec).to(device)
        self.backbone = backbone
        self.labeller = VideoScores(data.class_scores) if data.class_scores else None
        self._batches: Iterator[Tensor] = iter(())

    def begin_epoch(self, batches: list[list[int]], done: int) -> None:
        """See :class:`Task`: start decoding the epoch's batches ahead."""
        self.training.epoch = done
        self._batches = iter(
            DataLoader(self.training, batch_sampler=batches, num_workers=self.config.data.workers)
        )

    def losses(self, items: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """See :class:`Task`."""
        clips = next(self._batches).to(self.device)
        return self._losses(clips, [self.targets[item] for item in items], generator)

    def evaluation_loss(self, generator: torch.Generator) -> float:
        """See :class:`Task`."""
        total = 0.0
        for video, clips in self._scored():
            targets = [self._targets(_piece(video, self.options.snippets))]
            total += float(self._losses(clips, targets, generator)["loss"])
        return total / len(self.evaluated)

    def predict(self) -> Results:
        """See :class:`Task`."""
        results: Results = {}
        for video, clips in self._scored():
            maps, start, end = (part[0].double().cpu().numpy() for part in self.model(clips))
            shown = [Maps(overlap_dt=maps[0], match_dt=maps[1], start_t=start, end_t=end)]
            piece = _piece(video, self.options.snippets)
            segments, scores = propose([piece], shown, self.config.post)
            results[video.video] = self._rows(video.video, segments, scores)
        return results

    def headline(self, figures: dict[str, Any]) -> tuple[str, float]:
        """See :class:`Task`."""
        name = "average_mAP" if self.metric == "detection" else "AUC"
        return name, float(figures[name])

    def finish(self) -> None:
        """See :class:`Task`: write the backbone for extraction."""
        state = {name: value.cpu() for name, value in self.backbone.state_dict().items()}
        spec = dataclasses.replace(self.spec, digest=weights_digest(state))
        storage.write_bytes(storage.join(self.config.run.dir, BACKBONE), backbone_bytes(state, spec))

    def _losses(
        self, clips_bncthw: Tensor, targets: list[MapTargets], generator: torch.Generator
    ) -> dict[str, Tensor]:
        batch = {
            field.name: torch.stack([getattr(target, field.name) for target in targets]).to(self.device)
            for field in dataclasses.fields(MapTargets)
        }
        maps, start, end = self.model(clips_bncthw)
        head = self.options
        loss = map_loss(
            maps,
            start,
            end,
            MapTargets(**batch),
            self.valid_dt,
            overlap_weight=head.overlap_weight,
            match_weight=head.match_weight,
            match_prior=head.match_prior,
            generator=generator,
        )
        return {"loss": loss.total, "boundary": loss.boundary, "overlap": loss.overlap, "match": loss.match}

    def _rows(self, video: str, segments_n2: Floats, scores_n: Floats) -> list[dict[str, Any]]:
        named = [("", 1.0)] if self.labeller is None else self.labeller.best(video, self.config.post.classes)
        return [
            {"segment": [float(start), float(end)], "score": float(score) * probability}
            | ({"label": label} if label else {})
            for (start, end), score in zip(segments_n2, scores_n, strict=True)
            for label, probability in named
        ]

    def _scored(self) -> Iterator[tuple[VideoAnnotation, Tensor]]:
        loader = DataLoader(self.scored, batch_size=1, num_workers=self.config.data.workers)
        for video, clips in zip(self.evaluated, loader, strict=True):
            yield video, clips.to(self.device)

    def _targets(self, piece: Piece) -> MapTargets:
        head = self.options
        return make_targets(piece.segments_n2, head.durations, head.snippets, head.boundary_unit)

    def _present(
        self, found: dict[str, VideoRef], annotations: str, subset: str, name: str
    ) -> list[VideoAnnotation]:
        """Give the annotated videos of a subset that are there.

        Raises:
            ConfigError: more than the share ``data.missing`` is absent, or none is there.
            AnnotationError: a video's duration is not known.
        """
        wanted = [video for video in read_detection(annotations, subset) if video.segments]
        present = [video for video in wanted if video.video in found]
        absent = len(wanted) - len(present)
        if not present or absent > self.config.data.missing * len(wanted):
            raise ConfigError(
                "data.videos",
                storage.redact(self.config.data.videos),
                f"has {len(present)} of {len(wanted)} annotated {name} videos; add them, or raise data.missing",
            )
        for video in present:
            if not math.isfinite(video.duration):
                raise AnnotationError(annotations, video.video, "has no duration")
        return present

    def _videos(
        self, found: dict[str, VideoRef], videos: list[VideoAnnotation], *, seed: int | None
    ) -> LowFidelityVideos:
        encoder = self.config.encoder
        return LowFidelityVideos(
            [found[video.video] for video in videos],
            snippets=self.options.snippets,
            frames=encoder.frames,
            stride=encoder.stride,
            size=encoder.size,
            seed=seed,
        )


def _piece(video: VideoAnnotation, snippets: int) -> Piece:
    """Cover a whole video; what it shows is decoded elsewhere."""
    nothing = VideoFeatures(
        video=video.video,
        values_tc=np.zeros((2, 1), dtype=np.float32),
        centres_t=np.array([0.0, video.duration]),
        duration=video.duration,
        step=video.duration,
    )
    return whole(nothing, video, snippets)


def _seeded(source: str, seed: int) -> str:
    """Draw untrained weights from the run's seed where none is given."""
    return f"{source}#{seed}" if source.startswith(RANDOM) and "#" not in source else source
