"""Features in half precision against those in fp32, for every backbone, on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pal_ds.config.base import ConfigError
from pal_ds.models.layers import half_precision
from pal_ds.transfer.extraction.frozen_encoder import PRECISIONS
from tests.support.networks import encoder_of, moving_clips, random_network
from tests.transfer.extraction.test_readouts import NETWORKS

SIZE = 64


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_features_point_where_those_in_fp32_do(name: str, precision: str) -> None:
    backbone = random_network(name)
    clips = moving_clips(12, size=SIZE)
    exact = encoder_of(backbone, size=SIZE).encode(clips)
    if not half_precision.frozen_is_sound(backbone, "cpu", PRECISIONS[precision]):
        with pytest.raises(ConfigError, match="3D convolutions give wrong results"):
            encoder_of(backbone, size=SIZE, precision=precision)
        pytest.skip(f"{precision} convolutions are wrong on this processor, and refused")
    encoder = encoder_of(backbone, size=SIZE, precision=precision)
    found = encoder.encode(clips)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert F.cosine_similarity(found, exact).min() >= 0.999
    # Untrained networks map all clips to nearly one direction; what differs between clips must survive too.
    centre = exact.mean(dim=0)
    near = F.cosine_similarity((found - centre)[:, None], (exact - centre)[None], dim=2)
    assert near.argmax(dim=1).tolist() == list(range(len(clips)))


@pytest.mark.parametrize("name", ["i3d", "small_vit"])
def test_a_precision_that_is_wrong_on_this_machine_is_refused_where_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_precision, "half_conv3d_is_sound", lambda *_: False)
    # The transformer's tubelets are a 3D convolution too.
    with pytest.raises(ConfigError, match="--precision = 'bf16': 3D convolutions give wrong results"):
        encoder_of(random_network(name), precision="bf16")
    encoder_of(random_network(name), precision="fp32")
    encoder_of(random_network("tsm_resnet50"), precision="bf16")
