"""Streaming: order, reading, decoding, synthesis and augmentation (docs/design.md)."""

from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.errors import (
    ClipDecodeError,
    ClipError,
    DecoderUnavailableError,
    TooManyBadClipsError,
    WorkerLostError,
)
from pal_ds.data.group_feed import LoaderStats
from pal_ds.data.loader import GroupLoader
from pal_ds.data.order.epoch_order import EpochPlan, allowed_world_sizes
from pal_ds.data.synthesis.render import render
from pal_ds.data.validation_set import ValidationSet

__all__ = [
    "ClipDecodeError",
    "ClipError",
    "DecoderUnavailableError",
    "EpochPlan",
    "Group",
    "GroupLoader",
    "LoaderStats",
    "MicroBatch",
    "TooManyBadClipsError",
    "ValidationSet",
    "WorkerLostError",
    "allowed_world_sizes",
    "render",
]
