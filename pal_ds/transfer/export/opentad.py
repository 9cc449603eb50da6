"""What OpenTAD needs to train on an encoder end to end: one file to drop in, the encoder, the part of a config."""

from __future__ import annotations

from pathlib import Path

from pal_ds import storage
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.transfer.export import opentad_backbone
from pal_ds.transfer.export.hub_folder import export_hub
from pal_ds.transfer.export.model_card import UNKNOWN
from pal_ds.transfer.extraction.frozen_encoder import SHORT_SIDE_RATIO

FILE = "pal_opentad.py"
CONFIG = "pal_config.py"
ENCODER = "encoder"


def export_opentad(source_url: str, out_url: str, *, license_id: str = UNKNOWN) -> BackboneSpec:
    """Write ``pal_opentad.py``, ``pal_config.py`` and the folder ``encoder``.

    Args:
        source_url: run, checkpoint, exported file or folder, or ``random:NAME``.
        out_url: folder, path or URL.
        license_id: for the encoder's model card.

    Raises:
        ConfigError: a licence that is no id.
        BackboneError: the source holds no usable backbone.
        StorageError: a place can't be read or written.
    """
    encoder_url = storage.join(out_url, ENCODER)
    spec = export_hub(source_url, encoder_url, license_id=license_id)
    # The file that is tested is the file that is written.
    storage.write_bytes(storage.join(out_url, FILE), Path(opentad_backbone.__file__).read_bytes())
    if storage.is_local(encoder_url):
        encoder_url = str(storage.local_path(encoder_url).absolute())
    storage.write_bytes(storage.join(out_url, CONFIG), _config(spec, encoder_url).encode())
    return spec


def _config(spec: BackboneSpec, encoder_url: str) -> str:
    return f"""# The encoder's part of an OpenTAD config; {FILE} belongs into opentad/models/backbones.
# In the data set's pipelines: LoadSnippetFrames with clip_len, Resize to short_side, CenterCrop to crop_size.
clip_len = {spec.clip_frames}
short_side = {round(spec.size * SHORT_SIDE_RATIO)}
crop_size = {spec.size}

model = dict(
    backbone=dict(
        type="PalEncoder",
        folder={storage.redact(encoder_url)!r},
        output="volume",  # [N, C, T, H, W]
        frozen_stages=0,
        recompute=False,
        custom=dict(
            pretrain=None,  # the folder holds the weights
            post_processing_pipeline=[
                dict(type="Reduce", keys=["feats"], ops="b n c t h w -> b n c", reduction="mean"),
                dict(type="Rearrange", keys=["feats"], ops="b n c -> b c n"),
            ],
            norm_eval=True,
            freeze_backbone=True,  # False trains the encoder with the detector
        ),
    ),
    projection=dict(in_channels={spec.feature_dim}),
)
"""
