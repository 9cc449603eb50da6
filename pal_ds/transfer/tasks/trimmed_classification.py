"""Trimmed action classification (TAC): a pre-trained backbone fine-tuned end to end, or probed, with a classifier."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pal_ds import storage
from pal_ds.config.tac import TacConfig
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.formats.feature_folder import FeatureError
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.random_backbone import PREFIX as RANDOM
from pal_ds.transfer.tasks.base import Results, Task
from pal_ds.transfer.tasks.labelled_clips import LabelledClips


class Classifier(nn.Module):
    """Backbone, dropout and a linear layer, for clips of bytes.

    Args:
        backbone: [B, 3, T, H, W] float in, [B, C] out, with attribute ``feature_dim``.
        spec: input statistics.
        classes: K.
        dropout: before the linear layer.
        frozen: whether the backbone stays as it is.
    """

    mean_c111: Tensor
    std_c111: Tensor

    def __init__(
        self, backbone: nn.Module, spec: BackboneSpec, *, classes: int, dropout: float, frozen: bool
    ) -> None:
        super().__init__()
        self.backbone, self.frozen = backbone.requires_grad_(not frozen), frozen
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(spec.feature_dim, classes)
        for name, values in (("mean_c111", spec.mean), ("std_c111", spec.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, clips_nctHW: Tensor) -> Tensor:  # noqa: N803 (H and W are the picture's)
        """Give logits [N, K] of uint8 clips [N, 3, T, H, W]."""
        scaled = (clips_nctHW.float() / 255.0 - self.mean_c111) / self.std_c111
        logits: Tensor = self.classifier(self.dropout(self.backbone(scaled)))
        return logits


class TacTask(Task):
    """Fine-tunes and scores by top-1 and top-5 accuracy of videos.

    Args:
        config: of the run.
        device: where it runs.

    Raises:
        ConfigError: the shard set doesn't fit.
        BackboneError: the weights don't.
    """

    def __init__(self, config: TacConfig, *, device: torch.device) -> None:
        self.config, self.device, self.metric = config, device, "classification"
        self.head, self.tiou, self.subset = "linear", "", "validation"
        self.truth = storage.join(config.run.dir, "truth.json")
        backbone, spec = load_backbone(_seeded(config.model.backbone, config.run.seed))
        data = config.data
        shape = {"frames": spec.clip_frames, "size": spec.size}
        self.training = LabelledClips(data, data.train_split, seed=config.run.seed, **shape)
        self.evaluated = LabelledClips(data, data.evaluate_split, seed=None, **shape)
        self.items = len(self.training)
        self.model = Classifier(
            backbone,
            spec,
            classes=len(self.training.labels),
            dropout=config.model.dropout,
            frozen=config.model.frozen,
        ).to(device)
        self._batches: Iterator[Any] = iter(())

    def begin_epoch(self, batches: list[list[int]], done: int) -> None:
        """See :class:`Task`: start decoding the epoch's batches ahead."""
        self.training.epoch = done
        self._batches = iter(
            DataLoader(self.training, batch_sampler=batches, num_workers=self.config.data.workers)
        )

    def losses(self, items: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        """See :class:`Task`."""
        del items, generator  # both were given to begin_epoch, in this order
        with _plain_errors():
            clips, labels, _ = next(self._batches)
        logits = self.model(clips[:, 0].to(self.device))
        loss = F.cross_entropy(logits, labels.to(self.device))
        top1 = (logits.detach().argmax(dim=1).cpu() == labels).float().mean()
        return {"loss": loss, "top1": top1}

    def evaluation_loss(self, generator: torch.Generator) -> float:
        """See :class:`Task`."""
        del generator
        total = 0.0
        for probability, label, _ in self._scored():
            total -= float(probability[label].clamp(min=1e-12).log())
        return total / len(self.evaluated)

    def predict(self) -> Results:
        """See :class:`Task`; writes the ground truth beside, in the official form."""
        results: Results = {}
        truth = {}
        names = self.evaluated.labels
        for probability, label, key in self._scored():
            best = probability.topk(min(5, len(names)))
            results[key] = [
                {"label": names[number], "score": score}
                for score, number in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            annotation = {"label": names[label], "segment": [0.0, 0.0]}
            truth[key] = {"subset": self.subset, "annotations": [annotation]}
        storage.write_bytes(self.truth, json.dumps({"database": truth}).encode())
        return results

    def headline(self, figures: dict[str, Any]) -> tuple[str, float]:
        """See :class:`Task`."""
        return "top1", float(figures["top1"])

    def state(self) -> dict[str, Any]:
        """See :class:`Task`."""
        return {"labels": list(self.training.labels)}

    def _scored(self) -> Iterator[tuple[Tensor, int, str]]:
        """Yield each evaluated video's mean probabilities over its clips, class and key."""
        loader = DataLoader(self.evaluated, batch_size=None, num_workers=self.config.data.workers)
        batches = iter(loader)
        for _ in range(len(self.evaluated)):
            with _plain_errors():
                clips, label, key = next(batches)
            yield self.model(clips.to(self.device)).softmax(dim=1).mean(dim=0).cpu(), label, key


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Give a decoding process's error without the traceback that came with it."""
    try:
        yield
    except FeatureError as error:
        raise FeatureError(
            str(error).strip().splitlines()[-1].partition("FeatureError: ")[2] or str(error)
        ) from None


def _seeded(source: str, seed: int) -> str:
    """Draw untrained weights from the run's seed where none is given."""
    return f"{source}#{seed}" if source.startswith(RANDOM) and "#" not in source else source
