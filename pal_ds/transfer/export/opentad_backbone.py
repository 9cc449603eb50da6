"""A pal-ds encoder as an OpenTAD backbone: put this file into ``opentad/models/backbones`` and import it there.

Needs pal-ds beside OpenTAD (``pip install pal-ds``; Python 3.11 and torch 2.11 or newer). The encoder is built from
its folder, so every size of clip and every stage can be trained. In an older environment extract features instead
(``pal-extract --format opentad``).

OpenTAD's wrapper calls ``data_preprocessor.preprocess`` with a list of clips and then ``backbone`` with
[B * N, 3, T, H, W]. Both are here, so that the statistics are always the encoder's own:

    backbone=dict(type="PalEncoder", folder="encoder/", custom=dict(pretrain=None, post_processing_pipeline=[...]))
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pal_ds.models.backbones.common import frame_differences
from pal_ds.transfer.backbone_export import load_backbone

OUTPUTS = ("volume", "vector")


class PalPreprocessor(nn.Module):
    """Pixels to what the encoder was trained on.

    Args:
        mean: of the channels (RGB, values in [0, 1]).
        std: their deviations.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1, 1), persistent=False)

    def preprocess(
        self, inputs: Sequence[Tensor], data_samples: Any = None, training: bool = False
    ) -> tuple[Tensor, Any]:
        """Stack and normalise.

        Args:
            inputs: for each video [N, 3, T, H, W], pixels from 0 to 255.
            data_samples: handed through.
            training: has no effect; nothing is blended.

        Returns:
            float [B, N, 3, T, H, W], and ``data_samples``.
        """
        del training
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        frames_bncthw = torch.stack(list(inputs)).to(mean.device, torch.float32)
        return (frames_bncthw / 255.0 - mean) / std, data_samples


class PalBackbone(nn.Module):
    """The network alone.

    Args:
        network: as :func:`load_backbone` gives it.
        output: ``volume`` [N, C, T', H', W'], or ``vector`` [N, C].
        frozen_stages: so many of the first stages are never trained.
        recompute: keep less in memory in training and compute it again in the backward pass.

    Raises:
        ValueError: another output, or more stages than there are.
    """

    def __init__(self, network: Any, *, output: str, frozen_stages: int, recompute: bool) -> None:
        super().__init__()
        stages = len(network.stages())
        if output not in OUTPUTS:
            raise ValueError(f"output = {output!r}: use one of {', '.join(OUTPUTS)}")
        if not 0 <= frozen_stages <= stages:
            raise ValueError(f"frozen_stages = {frozen_stages}: the network has {stages} stages")
        if recompute and not stages:
            raise ValueError("recompute = True: the network names no stages; leave it out")
        self.network = network.requires_grad_(True)
        self.output = output
        self._frozen = [module for stage in network.stages()[:frozen_stages] for module in stage]
        for module in self._frozen:
            module.requires_grad_(False)
        network.recomputed_stages = stages if recompute else 0

    def train(self, mode: bool = True) -> PalBackbone:
        """Set the mode; frozen stages stay in eval mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Encode normalised clips, [N, 3, T, H, W]."""
        if self.output == "vector":
            features_nc: Tensor = self.network(clips_ncthw)
            return features_nc
        if self.network.differences:
            clips_ncthw = frame_differences(clips_ncthw)
        volume_ncthw: Tensor = self.network.volume(clips_ncthw)
        return volume_ncthw


class PalEncoder(nn.Module):
    """What OpenTAD's wrapper takes for a model: ``data_preprocessor`` and ``backbone``.

    Args:
        folder: what ``pal-pretrain export`` wrote (a folder or a ``.safetensors`` file), or a run; path or URL.
        output: ``volume`` [N, C, T', H', W'], or ``vector`` [N, C].
        frozen_stages: so many of the first stages are never trained.
        recompute: keep less in memory in training and compute it again in the backward pass.

    Raises:
        ValueError: a setting out of its range, or a folder that holds no encoder.
    """

    def __init__(
        self, folder: str, output: str = "volume", frozen_stages: int = 0, recompute: bool = False
    ) -> None:
        super().__init__()
        network, spec = load_backbone(folder)
        self.feature_dim = spec.feature_dim
        self.data_preprocessor = PalPreprocessor(spec.mean, spec.std)
        self.backbone = PalBackbone(network, output=output, frozen_stages=frozen_stages, recompute=recompute)

    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Encode normalised clips as ``backbone`` does."""
        features: Tensor = self.backbone(clips_ncthw)
        return features


def register() -> None:
    """Let OpenTAD build ``type="PalEncoder"``."""
    importlib.import_module("mmengine.registry").MODELS.register_module(module=PalEncoder)


# Inside pal-ds, where exports copy this file from, nobody builds by name.
if not __name__.startswith("pal_ds."):
    register()
