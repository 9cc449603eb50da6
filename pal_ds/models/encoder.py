"""The network both views pass through: backbone per clip, projection head, temporal head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pal_ds.config.model import ModelConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.models.layers.half_precision import sound_autocast
from pal_ds.models.layers.numerics import at_least_fp32
from pal_ds.models.layers.projection_heads import Projector, TemporalHead


class ClipSequenceEncoder(nn.Module):
    """Encode a sequence of clips to a sequence of embeddings, F = F^t(F^n(F^b(.))).

    All clips of the batch pass the backbone together, so each BatchNorm runs once per view over B x J clips.

    Args:
        model: backbone and head options.
        temporal: build the temporal head (MoCo's global feature has none).
    """

    def __init__(self, model: ModelConfig, *, temporal: bool = True) -> None:
        super().__init__()
        self.channels_last = model.channels_last
        self.backbone = backbone_of(model)
        self.projector = Projector(
            self.backbone.feature_dim,
            model.embedding_dim,
            layers=model.projector_layers,
            hidden=model.projector_hidden,
            batch_norm=model.head_bn,
        )
        self.temporal = TemporalHead(
            model.embedding_dim,
            layers=model.temporal_layers if temporal else 0,
            final_relu=model.final_relu,
            batch_norm=model.head_bn,
        )

    def forward(self, clips_bjcthw: Tensor) -> Tensor:
        """Encode clips.

        Args:
            clips_bjcthw: float [B, J, 3, T, H, W], normalised.

        Returns:
            Features before any norm, [B, J, D], at least fp32.
        """
        return self.heads(self.features(clips_bjcthw))

    def features(self, clips_bjcthw: Tensor) -> Tensor:
        """Backbone features of every clip, [B, J, C]: what is exported and used downstream."""
        features_nc = encode_clips(self.backbone, clips_bjcthw, channels_last=self.channels_last)
        return features_nc.reshape(*clips_bjcthw.shape[:2], -1)

    def heads(self, features_bjc: Tensor) -> Tensor:
        """Projection and temporal head, [B, J, D], at least fp32."""
        embeddings_nd: Tensor = self.projector(features_bjc.flatten(0, 1))
        embeddings_bjd = embeddings_nd.reshape(*features_bjc.shape[:2], -1)
        return at_least_fp32(self.temporal(embeddings_bjd))


def encode_clips(backbone: nn.Module, clips_bjcthw: Tensor, *, channels_last: bool) -> Tensor:
    """Backbone features of every clip, [B * J, C].

    Only the input is laid out channels-last: convolutions follow it, while weights stay contiguous as
    checkpoints and ZeRO's flat buffers need them. Clips in half precision are widened where autocast is off.
    """
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    clips_ncthw = clips_bjcthw.flatten(0, 1).contiguous(memory_format=layout)
    with sound_autocast(backbone, clips_ncthw.device.type):
        if not torch.is_autocast_enabled(clips_ncthw.device.type):
            clips_ncthw = at_least_fp32(clips_ncthw)
        features_nc: Tensor = backbone(clips_ncthw)
    return features_nc
