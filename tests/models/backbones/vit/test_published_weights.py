"""Published files by their names and shapes: every tensor arrives at its place, and anything else is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pal_ds.models import WeightsError, load_backbone_weights, read_weights
from pal_ds.models.backbones.vit.library import build_network, load_network
from tests.support.encoders import (
    KINDS,
    dinov2_state,
    hub_state,
    tiny_encoder,
    tiny_transformer,
    videomae_v2_state,
    vjepa2_file,
)


def file_of(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_the_hub_gives_the_librarys_features(kind: str) -> None:
    state = hub_state(kind)
    backbone = tiny_transformer(kind).eval()
    load_backbone_weights(backbone, read_weights(file_of(state), source="x"), source="x")
    network, _ = load_network(tiny_encoder(kind), state)
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        if kind in ("dinov2", "clip_vision_model"):
            frames = clips.transpose(1, 2).flatten(0, 1)
            tokens = network.eval()(frames).last_hidden_state
            if kind == "clip_vision_model":
                tokens = network.post_layernorm(tokens)
            expected = tokens[:, 1:].reshape(2, -1, 32).mean(dim=1)
        elif kind == "vjepa2":
            expected = network.eval()(clips.transpose(1, 2), skip_predictor=True).last_hidden_state.mean(
                dim=1
            )
        else:
            tokens = network.eval()(clips.transpose(1, 2)).last_hidden_state
            expected = (tokens if kind == "videomae" else tokens[:, 1:]).mean(dim=1)
        torch.testing.assert_close(backbone(clips), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_too_few_or_too_many_or_another_shape_is_refused(kind: str) -> None:
    backbone = tiny_transformer(kind)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    good = hub_state(kind)
    inside = next(name for name in good if "mlp.fc1.bias" in name or "intermediate.dense.bias" in name)
    without = {name: value for name, value in good.items() if name != inside}
    for state, word in (
        (without, "missing"),
        (good | {"stray.weight": torch.zeros(1)}, "unknown"),
        (good | {inside: torch.zeros(3)}, "of another shape"),
    ):
        with pytest.raises(WeightsError, match=word):
            load_backbone_weights(backbone, state, source="x")
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_videomae_v2_as_fine_tuned() -> None:
    state = videomae_v2_state()
    backbone = tiny_transformer("videomae", config={"use_mean_pooling": True}).eval()
    load_backbone_weights(backbone, read_weights(file_of({"module": state}), source="x"), source="x")
    block = backbone.blocks[1].layer
    queries, keys, values = state["blocks.1.attn.qkv.weight"].chunk(3)
    attention = block.attention.attention
    assert torch.equal(attention.query.weight, queries)
    assert torch.equal(attention.key.weight, keys)
    assert torch.equal(attention.value.weight, values)
    assert torch.equal(attention.value.bias, state["blocks.1.attn.v_bias"])
    assert attention.key.bias is None
    assert torch.equal(block.layernorm_after.weight, state["blocks.1.norm2.weight"])
    assert torch.equal(backbone.norm.weight, state["fc_norm.weight"])
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        *_, tokens = backbone.layers(clips)
        # As its code does: the mean first, then the norm.
        expected = F.layer_norm(
            tokens.mean(1), (32,), state["fc_norm.weight"], state["fc_norm.bias"], backbone.norm.eps
        )
        torch.testing.assert_close(backbone(clips), expected)


def test_videomae_v2_as_pre_trained_needs_the_other_norm() -> None:
    state = read_weights(file_of({"model": videomae_v2_state(finetuned=False)}), source="x")
    backbone = tiny_transformer("videomae")
    load_backbone_weights(backbone, state, source="x")
    assert torch.equal(backbone.norm.weight, state["encoder.norm.weight"])
    with pytest.raises(WeightsError, match=r"fc_norm\.weight"):
        load_backbone_weights(
            tiny_transformer("videomae", config={"use_mean_pooling": True}), state, source="x"
        )
    finetuned = videomae_v2_state()
    with pytest.raises(WeightsError, match="fc_norm"):
        load_backbone_weights(tiny_transformer("videomae"), finetuned, source="x")


def test_v_jepa_2_checkpoint() -> None:
    content = vjepa2_file()
    backbone = tiny_transformer("vjepa2")
    load_backbone_weights(backbone, read_weights(file_of(content), source="x"), source="x")
    state = content["encoder"]
    attention = backbone.blocks[0].layer.attention
    queries, _, values = state["module.backbone.blocks.0.attn.qkv.bias"].chunk(3)
    assert torch.equal(attention.query.bias, queries)
    assert torch.equal(attention.value.bias, values)
    assert torch.equal(attention.proj.weight, state["module.backbone.blocks.0.attn.proj.weight"])
    assert torch.equal(backbone.norm.bias, state["module.backbone.norm.bias"])
    assert torch.equal(
        backbone.stem.embeddings.patch_embeddings.proj.weight,
        state["module.backbone.patch_embed.proj.weight"],
    )


def test_dinov2_as_its_authors_publish_it() -> None:
    state = dinov2_state()
    backbone = tiny_transformer("dinov2")
    load_backbone_weights(backbone, state, source="x")
    block = backbone.blocks[1].layer
    assert torch.equal(block.attention.v_proj.weight, state["blocks.1.attn.qkv.weight"].chunk(3)[2])
    assert torch.equal(block.layer_scale2.lambda1, state["blocks.1.ls2.gamma"])
    assert torch.equal(backbone.stem.embeddings.position_embeddings, state["pos_embed"])
    with pytest.raises(WeightsError, match="register_tokens"):
        load_backbone_weights(backbone, state | {"register_tokens": torch.zeros(1, 4, 32)}, source="x")


@pytest.mark.parametrize("options", [{"pooling": "layer:1"}, {"lora_rank": 2}, {"pooling": "attentive"}])
def test_what_a_run_adds_or_leaves_out_does_not_matter(options: dict[str, Any]) -> None:
    state = hub_state("dinov2")
    backbone = tiny_transformer("dinov2", **options)
    load_backbone_weights(backbone, state, source="x")
    plain = tiny_transformer("dinov2", seed=5)
    load_backbone_weights(plain, state, source="x")
    clips = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        for one, two in zip(backbone.eval().layers(clips), plain.eval().layers(clips), strict=False):
            torch.testing.assert_close(one, two)
    if "lora_rank" in options:
        torch.testing.assert_close(backbone(clips), plain(clips))


def test_a_plain_encoder_of_a_run_starts_one_with_adapters() -> None:
    plain = tiny_transformer("videomae", seed=3)
    adapted = tiny_transformer("videomae", lora_rank=2)
    load_backbone_weights(
        adapted, {f"query_encoder.backbone.{k}": v for k, v in plain.state_dict().items()}, source="x"
    )
    clips = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(adapted(clips), plain(clips))


def test_half_precision_files_arrive_in_fp32() -> None:
    state = {name: value.half() for name, value in hub_state("clip_vision_model").items()}
    backbone = tiny_transformer("clip_vision_model")
    load_backbone_weights(backbone, state, source="x")
    assert {value.dtype for value in backbone.state_dict().values()} == {torch.float32}


def test_the_network_is_the_librarys_own_size() -> None:
    backbone = tiny_transformer("vivit")
    network = build_network(tiny_encoder("vivit"))
    count = sum(value.numel() for value in network.parameters())
    assert sum(value.numel() for value in backbone.parameters()) == count
