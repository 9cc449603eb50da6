"""The backbones that ``model.backbone`` can name; a new one is its file in ``models/backbones`` and a line here."""

from __future__ import annotations

from pal_ds.config.encoders import PREFIX, names_encoder
from pal_ds.config.registry import Choice, Registry

_FOLDER = "pal_ds.models.backbones"

#: An encoder of ``transformers``: one choice for all of them, with the place of its config behind the name.
ENCODER = Choice(
    name=PREFIX,
    build=f"{_FOLDER}.vit.build:build_encoder",
    options=(
        *("encoder", "pooling", "drop_path", "frozen_stages"),
        *("lora_rank", "lora_alpha", "lora_layers"),
    ),
)


class BackboneRegistry(Registry[Choice]):
    """The named backbones, which can be listed, and encoders of ``transformers``, which can only be named."""

    def choose(self, name: str) -> Choice:
        """Return a choice; see :class:`Registry`."""
        return ENCODER if names_encoder(name) else super().choose(name)

    def declared(self) -> tuple[Choice, ...]:
        """Return every choice whose options others may not have."""
        return (*self.values(), ENCODER)


BACKBONES = BackboneRegistry(
    "model.backbone",
    (
        Choice(name="i3d", build=f"{_FOLDER}.i3d:InceptionI3d", options=("same_padding",)),
        Choice(name="resnet3d50", build=f"{_FOLDER}.resnet3d:ResNet3d50"),
        Choice(name="r2plus1d18", build=f"{_FOLDER}.r2plus1d:R2Plus1d18"),
        Choice(name="r2plus1d34", build=f"{_FOLDER}.r2plus1d:R2Plus1d34"),
        Choice(name="s3d", build=f"{_FOLDER}.s3d:S3d"),
        Choice(name="s3dg", build=f"{_FOLDER}.s3d:S3dG"),
        Choice(name="tsm_resnet18", build=f"{_FOLDER}.tsm_basic:TsmResNet18"),
        Choice(name="tsm_resnet50", build=f"{_FOLDER}.tsm:TsmResNet50"),
        Choice(name="tsm_resnet8", build=f"{_FOLDER}.tsm_small:TsmResNet8"),
    ),
)
