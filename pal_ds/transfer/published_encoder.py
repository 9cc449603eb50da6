"""An encoder of ``transformers`` as published, for extraction: ``hf:FOLDER``, with the mean over its patch tokens."""

from __future__ import annotations

from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.config.encoders import PREFIX, encoder_of
from pal_ds.config.model import ModelConfig
from pal_ds.formats.backbone_file import BackboneError, BackboneSpec, triple, weights_digest
from pal_ds.formats.encoder_folder import read_files, weights_files
from pal_ds.models import WeightsError, load_backbone_weights, read_weights
from pal_ds.models.backbones import backbone_of


def load_encoder(source: str) -> tuple[nn.Module, BackboneSpec]:
    """Build an encoder and load its weights strictly.

    Args:
        source: ``hf:`` and a local folder with ``config.json`` and weights.

    Returns:
        The module on the CPU in eval mode with gradients off, and what is known of it.

    Raises:
        BackboneError: there is no such encoder, it has no weights, or they do not fit.
    """
    try:
        model = ModelConfig(backbone=source)
        files = weights_files(source)
        if not files:
            raise BackboneError(f"{source}: no weights beside its config; a folder with both is needed")
        backbone = backbone_of(model)
        state: dict[str, Tensor] = {}
        for content, name in read_files(files):
            state |= read_weights(content, source=name)
        load_backbone_weights(backbone, state, source=str(files[0]))
    except (ConfigError, WeightsError) as error:
        raise BackboneError(str(error)) from error
    backbone.requires_grad_(False).eval()
    encoder = encoder_of(model.encoder)
    spec = BackboneSpec(
        backbone=f"{PREFIX}{encoder.kind}",
        width=1.0,
        feature_dim=backbone.feature_dim,
        clip_frames=encoder.frames,
        size=encoder.size,
        mean=triple(encoder.mean),
        std=triple(encoder.std),
        options=model.backbone_options(),
        digest=weights_digest(backbone.state_dict()),
        source=source,
    )
    return backbone, spec
