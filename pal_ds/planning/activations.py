"""What a backbone keeps and needs of every clip, in bytes, found by running it on tensors without memory.

The network itself is run, forward and backward, on fake tensors: the same operators, shapes and types, no data. Two
things are counted: what the backward pass is kept waiting for, and the most that is alive at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pal_ds.config.backbones import ENCODER
from pal_ds.config.model import ModelConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.models.backbones.common import Backbone

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: Clips of the two traces, whose difference is what a clip needs; so many that gradients of weights are small beside.
_FEW, _MORE = 64, 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipMemory:
    """Bytes that a backbone needs for a clip, beside the clip itself and its weights.

    Attributes:
        kept: held from the forward to the backward pass; with recomputed stages, of these their inputs alone.
        training: the most that is alive at once in forward and backward, ``kept`` included.
        encoding: the most that is alive at once in a forward pass without gradient.
    """

    kept: int
    training: int
    encoding: int


def clip_memory(
    model: ModelConfig,
    precision: str,
    *,
    frames: int,
    size: int,
    clip_dtype: torch.dtype = torch.float32,
) -> ClipMemory:
    """Find out what a backbone needs of each clip.

    Args:
        model: the backbone and its width, and how many of its stages are recomputed.
        precision: ``fp32``, ``bf16`` or ``fp16``, by autocast.
        frames: T.
        size: H and W.
        clip_dtype: type that clips come in.
    """
    # What the rest of the network's options are makes no difference, so runs that differ there share a trace.
    backbone = ModelConfig(
        backbone=model.backbone,
        width=model.width,
        same_padding=model.same_padding,
        differences=model.differences,
        channels_last=model.channels_last,
        recompute_stages=model.recompute_stages,
        **{name: getattr(model, name) for name in ENCODER.options},
    )
    return _traced(backbone, precision, frames, size, clip_dtype)


@functools.lru_cache(maxsize=256)
def _traced(
    model: ModelConfig, precision: str, frames: int, size: int, clip_dtype: torch.dtype
) -> ClipMemory:
    with torch.device("meta"):
        built = backbone_of(model)
    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        backbone = _on_cpu_without_memory(built)
        counts = [
            _counted(backbone, model.channels_last, precision, (clips, 3, frames, size, size), clip_dtype)
            for clips in (_FEW, _MORE)
        ]
    few, more = counts
    slope = [(of_more - of_few) // (_MORE - _FEW) for of_few, of_more in zip(few, more, strict=True)]
    return ClipMemory(kept=slope[0], training=slope[1], encoding=slope[2])


def _on_cpu_without_memory(backbone: Backbone) -> Backbone:
    """Turn the tensors of a network on the meta device into fake ones of the CPU, in place."""
    for module in backbone.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = torch.nn.Parameter(empty, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return backbone


def _counted(
    backbone: Backbone, channels_last: bool, precision: str, shape: tuple[int, ...], dtype: torch.dtype
) -> tuple[int, int, int]:
    """Return bytes kept, and the most alive in training and in encoding, for a batch of clips."""
    half = _HALF.get(precision)
    autocast = torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None)
    clips = torch.zeros(shape, dtype=dtype)
    laid_out = clips.contiguous(memory_format=torch.channels_last_3d) if channels_last else clips
    without = [*backbone.parameters(), *backbone.buffers(), clips, laid_out]
    with torch.no_grad(), autocast, LiveStorages(without) as encoding:
        backbone(laid_out)
    with LiveStorages(without) as training:
        with autocast:
            features = backbone(laid_out)
        kept = training.alive - _bytes(features)
        features.sum().backward()
    backbone.zero_grad(set_to_none=True)
    return kept, training.most, encoding.most


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operators make within it, each until it is given back.

    Args:
        without: tensors that live on outside of it and are not counted.

    Attributes:
        alive: bytes alive now.
        most: the most bytes that were alive at once.
    """

    def __init__(self, without: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.most = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._before = {tensor.untyped_storage()._cdata for tensor in without}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note the storages it makes."""
        del types
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._before:
            return

        def gone(_reference: Any) -> None:
            if self._known.pop(key, None) is not None:
                self.alive -= size

        self._known[key] = weakref.ref(storage, gone)
        self.alive += size
        self.most = max(self.most, self.alive)


def _tensors(values: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            with contextlib.suppress(NotImplementedError):
                leaf.untyped_storage()
                yield leaf


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
