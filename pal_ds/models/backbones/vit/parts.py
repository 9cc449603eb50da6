"""A network of ``transformers`` taken apart into what all encoders here are made of: stem, blocks, norm."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from pal_ds.config.encoders import Encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """The modules of an encoder.

    Attributes:
        stem: clips [B, 3, T, H, W] to tokens [rows, L, C]; a row is a clip, or a frame of one.
        blocks: transformer blocks, tokens to tokens.
        norm: the last norm.
        pooled_norm: the norm comes after pooling, as in networks made for a mean.
        frames_last: neighbouring patch tokens are of one place at two times, not of one time at two places.
    """

    stem: nn.Module
    blocks: list[Block]
    norm: nn.Module
    pooled_norm: bool = False
    frames_last: bool = False


class Block(nn.Module):
    """A block of the library behind the signature of a stage: tokens in, tokens out."""

    def __init__(self, layer: nn.Module, **arguments: Any) -> None:
        super().__init__()
        self.layer = layer
        self._arguments = arguments

    def forward(self, tokens_rlc: Tensor) -> Tensor:
        """Apply the block."""
        out = self.layer(tokens_rlc, **self._arguments)
        found: Tensor = out[0] if isinstance(out, tuple) else out
        return found


class ClipStem(nn.Module):
    """Patches and positions of a video encoder, a row a clip."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, clips_bcthw: Tensor) -> Tensor:
        """Tokens of every clip, [B, L, C]."""
        tokens: Tensor = self.embeddings(clips_bcthw.transpose(1, 2))
        return tokens


class VideoMaeStem(nn.Module):
    """Patches and fixed positions of VideoMAE; the library keeps these in no buffer, so that they would not move."""

    positions: Tensor

    def __init__(self, embeddings: Any) -> None:
        super().__init__()
        self.patches: nn.Module = embeddings.patch_embeddings
        # The library makes them on the CPU, whatever device it was told to build on.
        positions = embeddings.position_embeddings.to(embeddings.patch_embeddings.projection.weight.device)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, clips_bcthw: Tensor) -> Tensor:
        """Tokens of every clip, [B, L, C]."""
        tokens: Tensor = self.patches(clips_bcthw.transpose(1, 2))
        return tokens + self.positions.to(tokens.dtype)


class FrameStem(nn.Module):
    """Patches and positions of an image encoder, a row a frame."""

    def __init__(self, embeddings: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.norm = norm

    def forward(self, clips_bcthw: Tensor) -> Tensor:
        """Tokens of every frame, [B * T, L, C]."""
        frames_nchw = clips_bcthw.transpose(1, 2).flatten(0, 1)
        tokens: Tensor = self.embeddings(frames_nchw)
        return tokens if self.norm is None else self.norm(tokens)


def take_apart(network: Any, encoder: Encoder) -> Parts:
    """Return the parts of a network of :mod:`library`; what is not among them is dropped.

    Args:
        network: of this encoder.
        encoder: its config.
    """
    if encoder.kind == "videomae":
        # A network made for mean pooling has its norm behind the mean, in its classifier.
        pooled = network.layernorm is None
        norm = (
            nn.LayerNorm(network.config.hidden_size, eps=network.config.layer_norm_eps)
            if pooled
            else network.layernorm
        )
        blocks = [Block(layer) for layer in network.encoder.layer]
        return Parts(stem=VideoMaeStem(network.embeddings), blocks=blocks, norm=norm, pooled_norm=pooled)
    if encoder.kind == "timesformer":
        blocks = [Block(layer) for layer in network.encoder.layer]
        return Parts(
            stem=ClipStem(network.embeddings), blocks=blocks, norm=network.layernorm, frames_last=True
        )
    if encoder.kind == "vivit":
        blocks = [Block(layer) for layer in network.layers]
        return Parts(stem=ClipStem(network.embeddings), blocks=blocks, norm=network.layernorm)
    if encoder.kind == "vjepa2":
        blocks = [Block(layer) for layer in network.encoder.layer]
        return Parts(stem=ClipStem(network.encoder.embeddings), blocks=blocks, norm=network.encoder.layernorm)
    if encoder.kind == "dinov2":
        blocks = [Block(layer) for layer in network.encoder.layer]
        return Parts(stem=FrameStem(network.embeddings), blocks=blocks, norm=network.layernorm)
    blocks = [Block(layer, attention_mask=None) for layer in network.encoder.layers]
    return Parts(
        stem=FrameStem(network.embeddings, network.pre_layrnorm), blocks=blocks, norm=network.post_layernorm
    )
