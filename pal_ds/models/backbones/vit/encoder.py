"""A transformer as a clip encoder: clips in, one vector per clip out, with blocks for stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from pal_ds.config.encoders import Encoder, pooled_layer
from pal_ds.models.backbones.common import Backbone, frame_differences
from pal_ds.models.backbones.vit.parts import Parts
from pal_ds.models.backbones.vit.pooling import AttentivePool, MeanPool
from pal_ds.models.layers.half_precision import sound_autocast


class TransformerEncoder(Backbone):
    """A video encoder, or an image encoder applied to every frame.

    Args:
        encoder: its config.
        parts: its modules.
        pooling: ``mean`` of the patch tokens, ``cls`` (the class token; the mean over frames where there is one a
            frame), ``attentive``, ``last4`` (means after the last four blocks, side by side) or ``layer:K`` (the mean
            after block K; later blocks are left out).

    Attributes:
        encoder: as given.
        drop_path: share of rows that pass the last block over in training; rises linearly from 0 at the first.
    """

    #: The stem alone has convolutions, and looks after them itself.
    guards_half_precision = True

    def __init__(self, encoder: Encoder, parts: Parts, pooling: str = "mean") -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.drop_path = 0.0
        self.stem = parts.stem
        self.blocks = nn.ModuleList(parts.blocks[: pooled_layer(pooling)])
        self.norm = parts.norm
        dim = sum(parts.norm.get_parameter("weight").shape)
        self._pooled_norm, self._frames_last = parts.pooled_norm, parts.frames_last
        heads = int(encoder.config.get("num_attention_heads", 1))
        self.pool = AttentivePool(dim, heads) if pooling == "attentive" else MeanPool()
        self.feature_dim = 4 * dim if pooling == "last4" else dim

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The transformer blocks, tokens [rows, L, C] in and out."""
        return [[block] for block in self.blocks]

    def prepare(self, *, drop_path: float, frozen_stages: int) -> None:
        """Set what concerns training alone.

        Args:
            drop_path: see the class.
            frozen_stages: 1 freezes the stem, N the stem and the first N - 1 blocks; 0 nothing.
        """
        self.drop_path = drop_path
        if frozen_stages:
            self.stem.requires_grad_(False)
        for block in self.blocks[: max(0, frozen_stages - 1)]:
            block.requires_grad_(False)

    def layer_of(self, name: str) -> int:
        """Depth of a parameter by its name: 0 in the stem, k in block k, and one more behind the blocks."""
        first, _, rest = name.partition(".")
        if first == "blocks":
            return int(rest.partition(".")[0]) + 1
        return 0 if first == "stem" else len(self.blocks) + 1

    def embed(self, clips_bcthw: Tensor) -> Tensor:
        """Tokens before the first block, [rows, L, C]."""
        # A plan traces the network without data, and for another device.
        traced = type(clips_bcthw) is not Tensor or clips_bcthw.is_meta
        with nullcontext() if traced else sound_autocast(self.stem, clips_bcthw.device.type):
            tokens: Tensor = self.stem(clips_bcthw)
        return tokens

    def layers(self, clips_bcthw: Tensor) -> Iterator[Tensor]:
        """Yield the tokens [rows, L, C] after each block."""
        tokens = self.embed(frame_differences(clips_bcthw) if self.differences else clips_bcthw)
        for number in range(len(self.blocks)):
            tokens = self._passed(number, tokens)
            yield tokens

    def forward(self, clips_bcthw: Tensor) -> Tensor:
        """Encode clips.

        Args:
            clips_bcthw: float [B, 3, T, H, W], normalised as the encoder wants it.

        Returns:
            [B, feature_dim].
        """
        clips = len(clips_bcthw)
        wanted = 4 if self.pooling == "last4" else 1
        last = [
            tokens
            for number, tokens in enumerate(self.layers(clips_bcthw))
            if number >= len(self.blocks) - wanted
        ]
        return torch.cat([self._pool(tokens, clips) for tokens in last], dim=1)

    def volume(self, clips_bcthw: Tensor) -> Tensor:
        """Patch tokens after the last block and norm at their places, [B, C, T', H', W']."""
        *_, tokens = self.layers(clips_bcthw)
        if not self._pooled_norm:
            tokens = self.norm(tokens)
        patches_blc = self._patches(tokens, len(clips_bcthw))
        side = clips_bcthw.shape[-1] // self.encoder.patch
        places = (side, side, -1) if self._frames_last else (-1, side, side)
        volume = patches_blc.transpose(1, 2).reshape(*patches_blc.shape[::2], *places)
        return volume.movedim(4, 2) if self._frames_last else volume

    def stage_tokens(self, tokens: Tensor, clips: int) -> Tensor:
        """Patch tokens [B, N, C] of what a block gave for so many clips, as :meth:`forward` pools them.

        Where the norm comes behind the pooling (VideoMAE's mean), they are those before it.
        """
        return self._patches(tokens if self._pooled_norm else self.norm(tokens), clips)

    def _passed(self, number: int, tokens: Tensor) -> Tensor:
        """Tokens after a block; its draws are made outside of it, so that running it again draws nothing."""
        passed = self.run_stage(number, tokens)
        rate = self.drop_path * number / max(1, len(self.blocks) - 1)
        if not (rate and self.training and torch.is_grad_enabled()):
            return passed
        kept_r11 = torch.rand(len(tokens), 1, 1, device=tokens.device) >= rate
        return tokens + (passed - tokens) * (kept_r11 / (1 - rate)).to(passed.dtype)

    def _pool(self, tokens: Tensor, clips: int) -> Tensor:
        if not self._pooled_norm:
            tokens = self.norm(tokens)
        if self.pooling == "cls":
            return tokens[:, 0].reshape(clips, -1, tokens.shape[-1]).mean(dim=1)
        pooled: Tensor = self.pool(self._patches(tokens, clips))
        if self._pooled_norm:
            pooled = self.norm(pooled)
        return pooled

    def _patches(self, tokens: Tensor, clips: int) -> Tensor:
        """Patch tokens of every clip, [B, L, C], whether a row is a clip or a frame."""
        patches = tokens[:, 1:] if self.encoder.family.cls else tokens
        return patches.reshape(clips, -1, patches.shape[-1])


class RotaryEncoder(TransformerEncoder):
    """V-JEPA 2: its attention turns tokens by their place in a grid, which has the size of the input."""

    def embed(self, clips_bcthw: Tensor) -> Tensor:
        """Tokens before the first block, [B, L, C]."""
        side = clips_bcthw.shape[-1] // self.encoder.patch
        for block in self.blocks:
            block.layer.attention.grid_size = side  # type: ignore[union-attr]
        return super().embed(clips_bcthw)
