"""VideoMoCo (Pan et al., CVPR 2021): keys fade with age, and an adversary drops the frames a query leans on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.layers.numerics import at_least_fp32
from pal_ds.models.objectives.base import ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.moco import MocoObjective


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round: what lowers the loss upstream raises it here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        return -gradient


class FrameDropper(nn.Module):
    """Scores the frames of a clip and blanks those with the highest scores; trained to raise the loss.

    The paper's generator is a ConvLSTM trained in turns with the encoder. Here it is two strided convolutions a
    frame and one over time, trained in the same step through a reversed gradient, so that the optimizer, the
    checkpoint and ZeRO see one set of parameters.

    Args:
        share: share of a clip's frames to blank; at least one frame stays.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.frames = nn.Sequential(
            nn.Conv3d(3, 16, (1, 7, 7), stride=(1, 4, 4), padding=(0, 3, 3)),
            nn.ReLU(inplace=True),
            nn.Conv3d(16, 32, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.ReLU(inplace=True),
        )
        self.time = nn.Conv1d(32, 1, 3, padding=1)

    def forward(self, clips_bjcthw: Tensor) -> Tensor:
        """Clips of the same shape with frames set to 0, the mean colour."""
        clips_ncthw = clips_bjcthw.flatten(0, 1)
        described_nct = self.frames(clips_ncthw).mean(dim=(3, 4))
        reverse: Any = _Reversed.apply
        score_nt: Tensor = reverse(at_least_fp32(self.time(described_nct).squeeze(1)))
        kept_nt = self.kept(score_nt)
        # Straight-through: the mask is hard, its gradient that of the soft probability of being kept.
        soft_nt = torch.sigmoid(-score_nt)
        mask_nt = (kept_nt + soft_nt - soft_nt.detach()).to(clips_ncthw.dtype)
        return (clips_ncthw * mask_nt[:, None, :, None, None]).view_as(clips_bjcthw)

    def kept(self, score_nt: Tensor) -> Tensor:
        """1 for frames that stay and 0 for the highest scores, as many as the share says."""
        frames = score_nt.shape[1]
        dropped = min(frames - 1, round(self.share * frames))
        kept_nt = torch.ones_like(score_nt)
        return kept_nt.scatter(1, score_nt.topk(dropped, dim=1).indices, 0.0)


class VideoMocoObjective(MocoObjective):
    """MoCo whose negatives weigh ``queue_decay ** age`` and whose query frames an adversary drops in training.

    Args:
        objective: decay and share of dropped frames.
        model: network, temperature and momentum.
        queue: size of the memory.
    """

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
        super().__init__(objective, model, queue)
        self.dropper = FrameDropper(objective.drop_share) if objective.drop_share else None

    def forward(self, batch: ViewBatch) -> ObjectiveOutput:
        """Loss of a micro-batch; see :class:`Objective`."""
        if self.training and self.dropper is not None:
            batch = dataclasses.replace(batch, query_bjcthw=self.dropper(batch.query_bjcthw))
        return super().forward(batch)

    def _log_weights(self) -> Tensor | None:
        assert self.queue is not None
        if self.options.queue_decay == 1:
            return None
        return math.log(self.options.queue_decay) * self.queue.ages().to(self.queue.keys.dtype)
