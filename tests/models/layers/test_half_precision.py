"""Half precision gives the right gradients, or the backbone leaves it with a warning."""

from __future__ import annotations

import warnings

import pytest
import torch

from pal_ds.models.layers import half_precision
from tests.support.tiny_models import tiny_batch, tiny_objective


@pytest.fixture(autouse=True)
def warn_again() -> None:
    half_precision._warn.cache_clear()


def gradients(dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    # BatchNorm is frozen: over a handful of samples it turns rounding of the input alone into another gradient
    # (fp32 with 0.4 % of noise on the input: cosine 0.6 in these layers), and nothing could be compared.
    encoder = tiny_objective(width=1 / 4).query_encoder.eval()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        sequence_bjd = encoder(tiny_batch(2).query_bjcthw)
    slope_bjd = torch.randn(sequence_bjd.shape, generator=torch.Generator().manual_seed(0))
    (sequence_bjd * slope_bjd).sum().backward()
    return {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}


@pytest.mark.filterwarnings("ignore:bfloat16 3D convolutions:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_gradients_agree_with_fp32_and_repeat(dtype: torch.dtype) -> None:
    plain, cast, again = gradients(None), gradients(dtype), gradients(dtype)
    for name, value in cast.items():
        assert torch.equal(value, again[name]), name
        if name.startswith("backbone.Mixed_4") and "conv3d" in name:
            cosine = torch.nn.functional.cosine_similarity(value.flatten(), plain[name].flatten(), dim=0)
            # What rounding costs: 0.73 was seen in bf16, 0.98 in fp16, whose steps are eight times finer.
            assert cosine > (0.5 if dtype is torch.bfloat16 else 0.95), f"{name}: {float(cosine)}"


def run_cast(backbone: str = "i3d") -> None:
    objective = tiny_objective(backbone=backbone).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        objective(tiny_batch(2))


def test_unsound_convolutions_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "half_conv3d_is_sound", lambda *_: False)
    with pytest.warns(RuntimeWarning, match="the backbone runs in fp32") as caught:
        run_cast()
        run_cast()
    assert len(caught) == 1


def test_sound_ones_and_2d_backbones_stay_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(half_precision, "half_conv3d_is_sound", lambda *_: False)
        run_cast("tsm_resnet50")
        monkeypatch.setattr(half_precision, "half_conv3d_is_sound", lambda *_: True)
        run_cast()


def test_the_probe_sees_wrong_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    right = half_precision._conv_and_gradients

    def wrong(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output, of_clips, of_weight = right(*parts)
        return output, of_clips, of_weight * float("nan") if parts[0].dtype != torch.float32 else of_weight

    probe = half_precision.half_conv3d_is_sound.__wrapped__
    monkeypatch.setattr(half_precision, "_conv_and_gradients", wrong)
    assert not probe("cpu", torch.float16)
