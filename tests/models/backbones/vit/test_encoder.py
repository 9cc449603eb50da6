"""Encoders of transformers as backbones: poolings, stages, drop path, freezing, adapters."""

from __future__ import annotations

import pytest
import torch

from pal_ds.config.model import ModelConfig
from pal_ds.models.backbones import backbone_of
from pal_ds.models.backbones.vit.encoder import TransformerEncoder
from tests.support.encoders import CONFIGS, KINDS, tiny_transformer, write_folder

CLIPS = torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def of(tmp_path, kind: str, **options) -> TransformerEncoder:
    torch.manual_seed(0)
    backbone = backbone_of(ModelConfig(backbone=write_folder(tmp_path, kind), **options))
    assert isinstance(backbone, TransformerEncoder)
    return backbone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "attentive", "layer:1", "last4"])
def test_every_pooling_gives_one_vector_and_trains_every_weight(kind: str, pooling: str) -> None:
    if pooling == "cls" and kind in ("videomae", "vjepa2"):
        pytest.skip("has no class token")
    config = {"num_hidden_layers": 4} if pooling == "last4" else None
    backbone = tiny_transformer(kind, config=config, pooling=pooling)
    features = backbone(CLIPS)
    assert features.shape == (3, backbone.feature_dim) == (3, 128 if pooling == "last4" else 32)
    # A row depends on its own clip alone.
    torch.testing.assert_close(backbone(CLIPS[1:2]), features[1:2])
    features.square().sum().backward()
    assert [name for name, each in backbone.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_poolings_are_what_their_names_say(kind: str) -> None:
    *_, last = (backbone := tiny_transformer(kind).eval()).layers(CLIPS)
    rows = backbone.norm(last)
    patches = rows[:, 1:] if backbone.encoder.family.cls else rows
    torch.testing.assert_close(backbone(CLIPS), patches.reshape(3, -1, 32).mean(dim=1))
    torch.testing.assert_close(backbone(CLIPS), backbone.volume(CLIPS).mean(dim=(2, 3, 4)))
    first = tiny_transformer(kind, pooling="layer:1").eval()
    assert len(first.stages()) == 1
    first.load_state_dict({name: backbone.state_dict()[name] for name in first.state_dict()})
    tokens = backbone.norm(next(backbone.layers(CLIPS)))
    tokens = tokens[:, 1:] if backbone.encoder.family.cls else tokens
    torch.testing.assert_close(first(CLIPS), tokens.reshape(3, -1, 32).mean(dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_volume_has_its_tokens_at_their_places(kind: str) -> None:
    """A patch that changes moves the tokens of its place most, before blocks mix them."""
    backbone = tiny_transformer(kind).eval()
    backbone.blocks = backbone.blocks[:1]
    backbone.blocks[0].forward = lambda tokens: tokens
    changed = CLIPS.clone()
    changed[:, :, 2:4, 16:, :16] += 1
    moved = (backbone.volume(changed) - backbone.volume(CLIPS)).abs().sum(dim=1)[0]
    at = moved.shape[0] // 2
    expected = torch.zeros_like(moved, dtype=torch.bool)
    expected[at:, 1, 0] = True
    assert torch.equal(moved > 1e-4, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_stages_are_blocks_that_hooks_can_read(kind: str) -> None:
    backbone = tiny_transformer(kind).eval()
    seen: list[torch.Tensor] = []
    for (block,) in backbone.stages():
        block.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    backbone(CLIPS)
    assert len(seen) == 2
    for read, tokens in zip(seen, backbone.layers(CLIPS), strict=False):
        torch.testing.assert_close(read, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_blocks_have_the_same_gradients(kind: str, tmp_path) -> None:
    gradients = []
    for stages in (0, 2):
        backbone = of(tmp_path, kind, recompute_stages=stages, drop_path=0.5).train()
        torch.manual_seed(7)
        backbone(CLIPS).square().sum().backward()
        gradients.append({name: each.grad for name, each in backbone.named_parameters()})
    assert all(torch.equal(gradients[1][name], value) for name, value in gradients[0].items())


def test_drop_path_passes_rows_over_in_training_alone(tmp_path) -> None:
    backbone = of(tmp_path, "videomae", drop_path=0.9).train()
    first, second = backbone.layers(CLIPS.repeat(16, 1, 1, 1, 1))
    passed = (first == second).flatten(1).all(dim=1).float().mean()
    assert 0.7 < passed < 1
    with torch.no_grad():
        one = backbone(CLIPS)
    torch.testing.assert_close(one, backbone.eval()(CLIPS))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_stages(kind: str, tmp_path) -> None:
    for stages, frozen in ((1, {"stem"}), (2, {"stem", "blocks.0"}), (3, {"stem", "blocks.0", "blocks.1"})):
        backbone = of(tmp_path, kind, frozen_stages=stages)
        names = {
            name.partition(".")[0] if not name.startswith("blocks") else ".".join(name.split(".")[:2])
            for name, each in backbone.named_parameters()
            if not each.requires_grad
        }
        assert names == frozen


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_alone_are_trained_and_change_nothing_at_first(kind: str) -> None:
    adapted, plain = tiny_transformer(kind, lora_rank=2), tiny_transformer(kind)
    state = {name.replace(".base_layer.", "."): value for name, value in adapted.state_dict().items()}
    plain.load_state_dict({name: value for name, value in state.items() if ".lora_" not in name})
    torch.testing.assert_close(adapted(CLIPS), plain(CLIPS))
    trained = {name for name, each in adapted.named_parameters() if each.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    everywhere = tiny_transformer(kind, lora_rank=2, lora_layers="all")
    assert sum(each.requires_grad for each in everywhere.parameters()) > len(trained)


def test_an_attentive_pooling_is_trained_beside_adapters() -> None:
    backbone = tiny_transformer("dinov2", lora_rank=2, pooling="attentive")
    assert all(each.requires_grad for each in backbone.pool.parameters())


def test_layers_of_parameters() -> None:
    backbone = tiny_transformer("vjepa2", pooling="attentive")
    assert {backbone.layer_of(name) for name, _ in backbone.named_parameters()} == {0, 1, 2, 3}
    assert backbone.layer_of("stem.x") == 0
    assert backbone.layer_of("blocks.1.layer.norm1.weight") == 2
    assert backbone.layer_of("norm.weight") == backbone.layer_of("pool.query") == 3


@pytest.mark.parametrize("size", [32, 64])
def test_rotary_positions_follow_the_size_of_the_input(size: int) -> None:
    """At another size it is the network that was made for that size."""
    clips = torch.randn(2, 3, 6, size, size)
    backbone = tiny_transformer("vjepa2").eval()
    made = tiny_transformer("vjepa2", config={"crop_size": size, "frames_per_clip": 6}).eval()
    made.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(backbone(clips), made(clips))


def test_every_kind_is_tried() -> None:
    assert set(KINDS) == set(CONFIGS)
