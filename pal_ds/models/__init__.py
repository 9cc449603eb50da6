"""Networks and losses: backbones, PAL's objective and its baselines. Knows nothing of data."""

from pal_ds.models.backbones import build_backbone
from pal_ds.models.layers.batchnorm_guard import BatchNormGuard, batch_statistics
from pal_ds.models.layers.sync_batchnorm import convert_sync_batchnorm
from pal_ds.models.objectives.base import ContrastTerm, Objective, ObjectiveOutput, ViewBatch
from pal_ds.models.objectives.build import build_objective
from pal_ds.models.pretrained_weights import WeightsError, load_backbone_weights, read_weights

__all__ = [
    "BatchNormGuard",
    "ContrastTerm",
    "Objective",
    "ObjectiveOutput",
    "ViewBatch",
    "WeightsError",
    "batch_statistics",
    "build_backbone",
    "build_objective",
    "convert_sync_batchnorm",
    "load_backbone_weights",
    "read_weights",
]
