"""MoCo-v2 on video: the baseline of Table 3, row 0."""

from __future__ import annotations

import torch
from torch import Tensor

from pal_ds.config.model import ModelConfig, QueueConfig
from pal_ds.config.objective import ObjectiveConfig
from pal_ds.models.objectives.pal import PalObjective


class MocoObjective(PalObjective):
    """Contrast whole videos: the region is the clip sequence itself and there is no temporal head.

    Rows 1 to 3 of Table 3 are this network with PAL's objective and other synthesis settings: dense (regions
    without paste), scale (free lengths and strides), paste onto the same or onto different backgrounds.
    """

    localises = False

    def __init__(self, objective: ObjectiveConfig, model: ModelConfig, queue: QueueConfig) -> None:
        super().__init__(objective, model, queue, temporal=False)

    def _region(self, sequence_bjd: Tensor, region_b2: Tensor) -> Tensor:
        whole_b2 = torch.zeros_like(region_b2)
        whole_b2[:, 1] = sequence_bjd.shape[1]
        return whole_b2
