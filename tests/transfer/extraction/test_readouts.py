"""Layers, poolings and tokens: read in one pass as they would be read by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pal_ds.config.base import ConfigError
from pal_ds.models.backbones.common import Backbone
from pal_ds.transfer.extraction.readouts import ReadoutRun, by_clip, parse_readouts
from tests.support.networks import encoder_of, moving_clips, random_network

NETWORKS = ("i3d", "resnet3d50", "r2plus1d18", "s3d", "tsm_resnet50", "tsm_resnet8", "small_vit")


def by_hand(backbone: Backbone, clips_bcthw: Tensor) -> list[Tensor]:
    """What each stage gives, [B, places, C]."""
    found = []
    plain = type(backbone).run_stage

    def kept(self: Backbone, number: int, x: Tensor, *arguments: object) -> Tensor:
        out = plain(self, number, x, *arguments)
        if out.ndim == 3:
            found.append(out.clone())
        elif out.ndim == 5:
            found.append(out.flatten(2).transpose(1, 2).clone())
        else:  # frames of a clip behind one another
            frames = len(out) // len(clips_bcthw)
            clips = out.reshape(len(clips_bcthw), frames, *out.shape[1:]).transpose(1, 2)
            found.append(clips.flatten(2).transpose(1, 2).clone())
        return out

    backbone.run_stage = kept.__get__(backbone)  # type: ignore[method-assign]
    backbone.volume(clips_bcthw)
    del backbone.run_stage
    return found


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_one_pass_reads_what_each_layer_gives(name: str) -> None:
    backbone = random_network(name)
    clips = torch.randn(3, 3, 8, 32, 32)
    names = ("output", "mean", "max", "layer:1", "layer:-1", "layer:2", "last2", "tokens", "tokens:2")
    found = dict(zip(names, ReadoutRun(backbone, parse_readouts(names))(clips), strict=True))
    stages, volume = by_hand(backbone, clips), backbone.volume(clips)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found["output"], backbone(clips))
    torch.testing.assert_close(found["mean"], volume.mean(dim=(2, 3, 4)), **close)
    torch.testing.assert_close(found["max"], volume.amax(dim=(2, 3, 4)), **close)
    torch.testing.assert_close(found["tokens"], volume.permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(found["layer:1"], stages[0].mean(1), **close)
    torch.testing.assert_close(found["layer:2"], stages[1].mean(1), **close)
    torch.testing.assert_close(found["layer:-1"], stages[-1].mean(1), **close)
    wanted = torch.cat([stage.mean(1) for stage in stages[-2:]], dim=1)
    torch.testing.assert_close(found["last2"], wanted, **close)
    torch.testing.assert_close(found["tokens:2"].flatten(1, -2), stages[1], **close)
    assert "volume" not in vars(backbone)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_an_output_that_is_not_the_volume_has_its_volume_read_too() -> None:
    class Own(type(random_network("small_vit"))):  # type: ignore[misc]
        def forward(self, clips_bcthw: Tensor) -> Tensor:
            return clips_bcthw.mean(dim=(2, 3, 4)) @ torch.ones(3, self.feature_dim)

    backbone = Own(width=0.125, depth=1).eval()
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.inference_mode():
        output, mean = ReadoutRun(backbone, parse_readouts(("output", "mean")))(clips)
        torch.testing.assert_close(output, backbone(clips))
        torch.testing.assert_close(mean, backbone.volume(clips).mean(dim=(2, 3, 4)))


def test_three_crops_are_averaged_in_every_pooled_readout() -> None:
    three = encoder_of(random_network("small_vit"), layers=("output", "layer:1"), crop="three")
    centre = encoder_of(random_network("small_vit"), layers=("output", "layer:1"))
    clips = moving_clips(2).expand(-1, -1, 3, -1, -1, -1).clone()
    clips[:, :, 1] = clips[:, :, 1].flip(-1)
    found = three.launch(clips).result()
    each = [centre.launch(clips[:, :, crop : crop + 1]).result() for crop in range(3)]
    for number, values in enumerate(found):
        torch.testing.assert_close(values, torch.stack([one[number] for one in each]).mean(0))


@pytest.mark.parametrize("wrong", ["layer", "layer:0", "last0", "last", "tokens:", "first"])
def test_unknown_readouts_are_named_with_those_there_are(wrong: str) -> None:
    with pytest.raises(ConfigError, match=rf"--layers = '{wrong}': use output"):
        parse_readouts((wrong,))


def test_readouts_that_a_network_lacks_are_refused() -> None:
    backbone = random_network("small_vit")
    with pytest.raises(ConfigError, match="has 13 stages"):
        encoder_of(backbone, layers=("layer:14",))
    with pytest.raises(ConfigError, match="has 13 stages"):
        encoder_of(backbone, layers=("last14",))
    with pytest.raises(ConfigError, match="given twice"):
        parse_readouts(("mean", "mean"))
    with pytest.raises(ConfigError, match="output only"):
        ReadoutRun(torch.nn.Identity(), parse_readouts(("mean",)))
    with pytest.raises(ConfigError, match="tokens of three crops"):
        encoder_of(backbone, layers=("tokens",), crop="three")


def test_tokens_are_kept_behind_each_pooled_readout_once() -> None:
    names = [one.name for one in parse_readouts(("mean", "max", "layer:3", "last2"), keep_tokens=True)]
    assert names == ["mean", "max", "layer:3", "last2", "tokens", "tokens:3"]
    assert [one.name for one in parse_readouts((), keep_tokens=True)] == ["output", "tokens"]
    assert [one.folder for one in parse_readouts(("layer:3", "layer:-3"))] == ["layer-3", "layer-from-end-3"]


def test_what_stages_give_is_brought_into_one_form() -> None:
    assert by_clip(torch.zeros(2, 5, 3, 4, 4), 2).shape == (2, 3, 4, 4, 5)
    assert by_clip(torch.zeros(6, 5, 4, 4), 2).shape == (2, 3, 4, 4, 5)
    assert by_clip(torch.zeros(2, 7, 5), 2).shape == (2, 7, 5)
    assert by_clip((torch.zeros(6, 7, 5), None), 2).shape == (2, 3, 7, 5)
    assert by_clip(torch.zeros(6, 5, dtype=torch.bfloat16), 2).dtype == torch.float32
    for wrong in (torch.zeros(5, 3, 4, 4), torch.zeros(2), None):
        with pytest.raises(ValueError, match="a stage returned"):
            by_clip(wrong, 2)
