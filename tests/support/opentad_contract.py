"""What OpenTAD's backbone wrapper does with a model, written from its call contract, without OpenTAD or mmengine."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class FakeRegistry:
    """mmengine's registry, as far as a module that is dropped in meets it."""

    def __init__(self) -> None:
        self.modules: dict[str, type] = {}

    def register_module(self, name: Any = None, force: bool = False, module: Any = None) -> Any:
        assert name is None
        assert module is not None
        if module.__name__ in self.modules and not force:
            raise KeyError(f"{module.__name__} is already registered")
        self.modules[module.__name__] = module
        return module

    def build(self, config: dict[str, Any]) -> Any:
        config = dict(config)
        return self.modules[config.pop("type")](**config)


@contextmanager
def mmengine() -> Iterator[FakeRegistry]:
    """Within it ``from mmengine.registry import MODELS`` gives a :class:`FakeRegistry`."""
    registry = FakeRegistry()
    package, module = types.ModuleType("mmengine"), types.ModuleType("mmengine.registry")
    module.MODELS = registry  # type: ignore[attr-defined]
    package.registry = module  # type: ignore[attr-defined]
    names = {"mmengine": package, "mmengine.registry": module}
    sys.modules.update(names)
    try:
        yield registry
    finally:
        for name in names:
            del sys.modules[name]


class Wrapper(nn.Module):
    """Frames and masks in, [B, C, T] out.

    Args:
        model: has ``data_preprocessor`` and ``backbone``.
        chunks: None for clips of their own, [B, N, 3, T, H, W]; else into how many clips one long one is cut,
            [B, 1, 3, T, H, W].
    """

    def __init__(
        self, model: nn.Module, *, chunks: int | None = None, freeze: bool = True, norm_eval: bool = True
    ) -> None:
        super().__init__()
        self.model = model
        self.chunks, self.freeze, self.norm_eval = chunks, freeze, norm_eval

    def forward(self, frames: Tensor, masks: Tensor | None = None) -> Tensor:
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)):
                    module.eval()
                    module.requires_grad_(False)
        frames, _ = self.model.data_preprocessor.preprocess(list(frames), data_samples=None, training=False)
        videos = len(frames)
        if self.chunks:
            frames = frames.unflatten(3, (self.chunks, -1)).movedim(3, 1).flatten(1, 2)
        count = frames.shape[1]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            features = self.model.backbone(frames.flatten(0, 1).contiguous())
        features = features.unflatten(0, (videos, count))
        if features.ndim == 6:
            # Own clips: a feature each; one long clip: its parts' volumes, behind one another.
            features = features.mean(dim=(4, 5))
            features = features.mean(dim=3, keepdim=True) if not self.chunks else features
            features = features.movedim(2, 1).flatten(2)
        else:
            features = features.movedim(2, 1)
        if masks is not None:
            features = features * masks.unsqueeze(1).detach().float()
        return features.float()
