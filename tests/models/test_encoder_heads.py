"""Heads and encoder: receptive field, regions, norms, equivariance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pal_ds.models.encoder import ClipSequenceEncoder
from pal_ds.models.layers.projection_heads import Projector, TemporalHead, region_embedding, region_mean
from tests.support.tiny_models import CLIPS, SIDE, tiny_model


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_receptive_field_grows_by_two(layers: int) -> None:
    head = TemporalHead(8, layers=layers, final_relu=False).double()
    sequence = torch.randn(1, 15, 8, dtype=torch.float64)
    changed = sequence.clone()
    changed[0, 7] += 10.0
    moved = (head(sequence) != head(changed)).any(dim=-1)[0]
    assert moved.nonzero().flatten().tolist() == list(range(7 - layers, 8 + layers))


def test_temporal_head_keeps_the_length_and_ends_in_relu_when_asked() -> None:
    sequence = torch.randn(2, CLIPS, 8)
    relu, linear = TemporalHead(8), TemporalHead(8, final_relu=False)
    assert relu(sequence).shape == linear(sequence).shape == sequence.shape
    assert (relu(sequence) >= 0).all()
    assert (linear(sequence) < 0).any()


@pytest.mark.parametrize(("layers", "kinds"), [(1, "L"), (2, "LRL"), (3, "LRLRL")])
def test_projector_layers(layers: int, kinds: str) -> None:
    head = Projector(8, 4, layers=layers)
    assert "".join("L" if isinstance(part, nn.Linear) else "R" for part in head) == kinds
    assert head(torch.randn(2, 8)).shape == (2, 4)


def test_head_bn_puts_a_batch_norm_before_each_hidden_relu() -> None:
    encoder = ClipSequenceEncoder(tiny_model(head_bn=True))
    assert sum(isinstance(part, nn.BatchNorm1d) for part in encoder.projector) == 1
    assert sum(isinstance(part, nn.BatchNorm1d) for part in encoder.temporal) == 2
    assert encoder(torch.randn(2, CLIPS, 3, 8, SIDE, SIDE)).shape == (2, CLIPS, 16)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_region_mean_equals_a_slice(data: st.DataObject) -> None:
    regions = []
    for _ in range(3):
        length = data.draw(st.integers(1, CLIPS))
        regions.append((data.draw(st.integers(0, CLIPS - length)), length))
    features = torch.randn(3, CLIPS, 5)
    expected = torch.stack([features[row, s : s + n].mean(dim=0) for row, (s, n) in enumerate(regions)])
    torch.testing.assert_close(region_mean(features, torch.tensor(regions)), expected)


def test_norm_positions() -> None:
    features, region = torch.randn(2, CLIPS, 5), torch.tensor([[1, 3], [0, 8]])
    cut = features[0, 1:4]
    clips = cut / cut.norm(dim=1, keepdim=True)
    mean = clips.mean(dim=0)
    torch.testing.assert_close(region_embedding(features, region, "clip")[0], mean)
    torch.testing.assert_close(region_embedding(features, region, "clip_and_region")[0], mean / mean.norm())
    plain = cut.mean(dim=0)
    torch.testing.assert_close(region_embedding(features, region, "region")[0], plain / plain.norm())


def test_region_vector_is_a_unit_vector_in_fp32() -> None:
    features = torch.randn(2, CLIPS, 5).bfloat16()
    vectors = region_embedding(features, torch.tensor([[1, 3], [0, 8]]))
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_clips_in_one_batch_equal_clips_one_by_one() -> None:
    encoder = ClipSequenceEncoder(tiny_model(temporal_layers=0)).eval()
    clips = torch.randn(2, CLIPS, 3, 8, SIDE, SIDE)
    with torch.no_grad():
        together = encoder(clips)
        alone = torch.stack(
            [
                torch.cat([encoder.projector(encoder.backbone(clip[None])) for clip in video])
                for video in clips
            ]
        )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_region_ignores_what_lies_outside_its_receptive_field(layers: int) -> None:
    encoder = ClipSequenceEncoder(tiny_model(temporal_layers=layers)).double().eval()
    clips = torch.randn(1, CLIPS, 3, 8, SIDE, SIDE, dtype=torch.float64)
    region = torch.tensor([[4, 1]])
    far = clips.clone()
    far[:, : 4 - layers] = 3.0
    far[:, 5 + layers :] = -3.0
    near = clips.clone()
    near[:, 4 - layers] = 3.0
    with torch.no_grad():
        before, unmoved, moved = (region_embedding(encoder(view), region) for view in (clips, far, near))
    torch.testing.assert_close(before, unmoved)
    assert not torch.allclose(before, moved, rtol=1e-4, atol=1e-6)


def test_moved_paste_moves_its_features_without_temporal_layers() -> None:
    encoder = ClipSequenceEncoder(tiny_model(temporal_layers=0)).eval()
    action, background = torch.randn(3, 3, 8, SIDE, SIDE), torch.randn(2, CLIPS, 3, 8, SIDE, SIDE)
    background[0, 1:4] = action
    background[1, 5:8] = action
    with torch.no_grad():
        features = encoder(background)
    torch.testing.assert_close(features[0, 1:4], features[1, 5:8], rtol=1e-4, atol=1e-5)
    vectors = region_embedding(features, torch.tensor([[1, 3], [5, 3]]))
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)
