"""How much of a GPU's memory a rank needs, part by part, and what fits: arithmetic around a trace of the backbone.

What activations need is counted by running the network without data (``activations.py``); the rest follows from the
config. What CUDA and its libraries take, the working space of convolutions and what the allocator loses to pieces are
assumed until a GPU has been measured.
"""

from __future__ import annotations

import dataclasses
import functools
import logging

import torch

from pal_ds.config import Config, ConfigError
from pal_ds.config.encoders import encoder_of
from pal_ds.config.model import ModelConfig
from pal_ds.config.objectives import OBJECTIVES
from pal_ds.data.order.epoch_order import allowed_world_sizes
from pal_ds.data.synthesis.render import views_dtype
from pal_ds.models.backbones import backbone_of
from pal_ds.planning.activations import ClipMemory, clip_memory

log = logging.getLogger(__name__)

GIB = 2**30
#: CUDA's context, cuBLAS, cuDNN and NCCL (assumed).
_LIBRARIES = 2 * GIB
#: Working space of convolutions, and of rendering 32 views at a time (assumed).
_WORKSPACE = 2 * GIB
#: Share of what is asked for that the allocator loses to pieces (assumed).
_LOST = 0.05
#: A worker's own CUDA context, where workers decode on the GPU (assumed).
_WORKER_CONTEXT = GIB // 2
#: Micro-batches of sources (what views are rendered from) on the device: one in use, one being copied.
_SOURCES = 2
#: Pixels of a shipped crop by those of a rendered frame (assumed: short side 128, a fifth of the frame to all of it).
_CROP = 1.25
#: Copies of the logits that the loss and its gradient hold at once.
_LOGITS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """Bytes that one rank needs at once.

    Attributes:
        fixed: bytes by part, whatever the batch.
        per_video: bytes by part, for each video of a micro-batch.
    """

    fixed: dict[str, float]
    per_video: dict[str, float]

    def parts(self, videos: int) -> dict[str, float]:
        """Return the bytes of every part for a micro-batch of so many videos, the allocator's loss included."""
        found = {name: bytes_ * videos for name, bytes_ in self.per_video.items()}
        for name, bytes_ in self.fixed.items():
            found[name] = found.get(name, 0.0) + bytes_
        found["lost to pieces (5 %, assumed)"] = _LOST * sum(found.values())
        return found

    def total(self, videos: int) -> float:
        """Return the bytes of all parts together."""
        return sum(self.parts(videos).values())

    def largest(self, capacity: float, group_size: int) -> int:
        """Return the most videos of a micro-batch that fit, a multiple of the group size; 0 where none do."""
        room = capacity / (1 + _LOST) - sum(self.fixed.values())
        return max(0, int(room / sum(self.per_video.values())) // group_size * group_size)


def memory_need(config: Config, world_size: int) -> MemoryNeed:
    """Work out what a rank of a run needs.

    Args:
        config: the run.
        world_size: ranks; some of the optimizer's state may be divided among them.
    """
    synthesis, model = config.synthesis, config.model
    dtype = views_dtype(config.precision, differences=model.differences, device="cuda")
    clip = clip_memory(
        model, config.precision, frames=synthesis.clip_frames, size=synthesis.size, clip_dtype=dtype
    )
    # Written once, in the type and layout that the backbone takes.
    clip_bytes = 3.0 * synthesis.clip_frames * synthesis.size**2 * dtype.itemsize
    keys = synthesis.views - 1
    negatives = 0.0 if not keys else 1.0 + config.queue.size * (config.objective.negatives != "batch")
    fixed = _state_bytes(config, world_size) | {
        "CUDA and libraries (assumed)": _LIBRARIES + _decoder_bytes(config),
        "working space (assumed)": float(_WORKSPACE),
    }
    per_video = {
        "activations": synthesis.view_clips
        * OBJECTIVES[config.objective.name].encodings
        * float(_activation_bytes(clip, queries=2 if model.symmetric else 1)),
        "views": synthesis.view_clips * synthesis.views * clip_bytes,
        "sources": _SOURCES * _source_bytes(config),
        "logits": _LOGITS * 4.0 * negatives * (2 if model.symmetric else 1),
    }
    return MemoryNeed(fixed=fixed, per_video=per_video)


def describe_memory(
    config: Config, need: MemoryNeed, videos: int, world_size: int, capacity_gib: float
) -> dict[str, str | float]:
    """Return the parts by name in GiB, and what fits, as a dry run prints them."""
    figures: dict[str, str | float] = {
        f"memory a rank, {name} (GiB)": round(bytes_ / GIB, 2) for name, bytes_ in need.parts(videos).items()
    }
    figures["memory a rank, estimated"] = f"{need.total(videos) / GIB:.1f} GiB of {capacity_gib:.1f}"
    group = config.data.group_size
    figures["largest micro-batch a rank, estimated"] = need.largest(capacity_gib * GIB, group)
    if _can_recompute(config.model):
        lightest = memory_need(_recomputing(config, _stages(config.model)), world_size)
        figures["largest micro-batch a rank with all stages recomputed, estimated"] = lightest.largest(
            capacity_gib * GIB, group
        )
    return figures


def check_memory(config: Config, videos: int, world_size: int, capacity_gib: float) -> MemoryNeed:
    """Work out what a rank needs, and refuse a plan that can't fit.

    Raises:
        ConfigError: it needs more than there is; the error says what to set.
    """
    need = memory_need(config, world_size)
    if need.total(videos) <= capacity_gib * GIB:
        return need
    raise ConfigError(
        "data.global_batch", config.data.global_batch, _too_large(config, need, videos, capacity_gib)
    )


def warn_of_memory(config: Config, videos: int, world_size: int, capacity_gib: float) -> None:
    """Log, before a run begins, that it is not expected to fit: an estimate doesn't keep a run from trying."""
    need = memory_need(config, world_size)
    if need.total(videos) > capacity_gib * GIB:
        log.warning(
            "data.global_batch = %d: %s",
            config.data.global_batch,
            _too_large(config, need, videos, capacity_gib),
        )


def memory_fix(config: Config, world_size: int, capacity_gib: float) -> str:
    """Return what to change so that a run needs less memory than it does now: one clause."""
    micro = config.data.global_batch // config.data.accumulation
    stages = _stages(config.model)

    def fits(changed: Config, ranks: int) -> bool:
        return memory_need(changed, ranks).total(micro // ranks) <= capacity_gib * GIB

    if _can_recompute(config.model) and fits(_recomputing(config, stages), world_size):
        for count in range(config.model.recompute_stages + 1, stages + 1):
            if fits(_recomputing(config, count), world_size):
                return f"set model.recompute_stages={count} (the same gradients, more time)"
    data = config.data
    for ranks in allowed_world_sizes(data.global_batch, data.group_size, data.accumulation):
        if ranks > world_size and fits(config, ranks):
            return f"use {ranks} GPUs"
    return "use a larger data.accumulation (another experiment: BatchNorm then sees smaller batches)"


def _too_large(config: Config, need: MemoryNeed, videos: int, capacity_gib: float) -> str:
    world_size = config.data.global_batch // (config.data.accumulation * videos)
    return (
        f"{videos} videos a rank need {need.total(videos) / GIB:.1f} GiB, estimated, and the GPU has "
        f"{capacity_gib:.1f}; {memory_fix(config, world_size, capacity_gib)}"
    )


def _can_recompute(model: ModelConfig) -> bool:
    """Whether blocks may be run again: not in one compiled graph, and not where they would drop other values."""
    return not model.compile and not (model.encoder and encoder_of(model.encoder).dropout)


def _recomputing(config: Config, stages: int) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, recompute_stages=stages))


def _source_bytes(config: Config) -> float:
    """Bytes of a video's sources on average: regions of mean length and backgrounds, for every view."""
    synthesis = config.synthesis
    clips = (synthesis.region_min + synthesis.region_max) / 2
    if synthesis.paste != "none":
        clips += synthesis.clips
    crop = _CROP if config.data.resize == "device" else 1.0
    return synthesis.views * clips * synthesis.clip_frames * synthesis.size**2 * 3 * crop


def _activation_bytes(clip: ClipMemory, *, queries: int) -> int:
    """Bytes of a clip at the worst time: keys are encoded first, then all queries, then the backward pass."""
    return max(clip.encoding, (queries - 1) * clip.kept + clip.training)


def _state_bytes(config: Config, world_size: int) -> dict[str, float]:
    """Weights and what belongs to them."""
    weights, moving = _parameters(config.model)
    # What is frozen is held once: the key encoder shares it.
    keys = moving if config.synthesis.views > 1 else 0.0
    owners = world_size if config.zero_stage else 1
    trained = 4 * weights + 4 * moving / (owners if config.zero_stage == 2 else 1) + 8 * moving / owners
    if config.zero_stage:
        trained += 4 * moving / owners
    flat = 4 * moving if world_size > 1 or config.zero_stage else 0.0
    copies = 0.0 if config.precision == "fp32" else 2 * (weights + keys)
    queue = (
        config.queue.size * config.model.embedding_dim * 4.0 * OBJECTIVES[config.objective.name].key_parts
        if config.objective.negatives != "batch"
        else 0.0
    )
    return {
        "weights, gradients, optimizer": trained + flat + copies,
        "key encoder and queue": 4 * keys + queue,
    }


def _decoder_bytes(config: Config) -> float:
    return float(_WORKER_CONTEXT * config.data.processes) if config.data.decode_device == "cuda" else 0.0


@functools.lru_cache(maxsize=32)
def _parameters(model: ModelConfig) -> tuple[float, float]:
    """Numbers of the backbone, and how many of them are trained."""
    with torch.device("meta"):
        backbone = backbone_of(model)
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in backbone.parameters()]
    return float(sum(count for count, _ in counts)), float(sum(count for count, moves in counts if moves))


@functools.lru_cache(maxsize=32)
def _stages(model: ModelConfig) -> int:
    with torch.device("meta"):
        return len(backbone_of(model).stages())
