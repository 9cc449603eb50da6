"""Warm start: accepted layouts, strictness, safety."""

from __future__ import annotations

import argparse
import io
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors
from torch import Tensor

from pal_ds.models import WeightsError, build_backbone, load_backbone_weights, read_weights
from pal_ds.models.pretrained_weights import inflated
from tests.support.tiny_models import tiny_objective


def torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def published(name: str = "i3d") -> dict[str, Tensor]:
    return {key: value.clone() for key, value in build_backbone(name, width=1 / 16).state_dict().items()}


def assert_loads(state: dict[str, Tensor], expected: dict[str, Tensor], name: str = "i3d") -> None:
    backbone = build_backbone(name, width=1 / 16)
    load_backbone_weights(backbone, state, source="test")
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_prefixes_and_classifiers_are_dropped(prefix: str) -> None:
    state = published()
    logits = {"logits.conv3d.weight": torch.zeros(400, 64, 1, 1, 1), "logits.conv3d.bias": torch.zeros(400)}
    assert_loads({prefix + key: value for key, value in (state | logits).items()}, state)


def test_a_runs_model_file_gives_its_query_backbone() -> None:
    state = tiny_objective(seed=5).state_dict()
    prefix = "query_encoder.backbone."
    expected = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    assert_loads(state, expected)


def test_tsm_infix_is_removed() -> None:
    state = published("tsm_resnet50")
    wrapped = {
        f"module.base_model.{key.replace('.conv1.', '.conv1.net.')}": value for key, value in state.items()
    }
    assert any(".net." in key for key in wrapped)
    assert_loads(wrapped | {"module.new_fc.bias": torch.zeros(3)}, state, "tsm_resnet50")


def test_image_weights_are_inflated() -> None:
    state = published("resnet3d50")
    image = {
        name: value.sum(dim=2) if value.ndim == 5 else value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    image |= {"fc.weight": torch.zeros(1000, 128), "fc.bias": torch.zeros(1000)}
    backbone = build_backbone("resnet3d50", width=1 / 16)
    load_backbone_weights(backbone, image, source="test")
    kernels = set()
    for name, value in backbone.state_dict().items():
        if value.ndim == 5:
            kernels.add(value.shape[2])
            torch.testing.assert_close(value.sum(dim=2), image[name])
            assert torch.equal(value, value[:, :, :1].expand_as(value))
    assert kernels == {1, 3}


def test_a_still_clip_gives_what_its_image_gave() -> None:
    flat, deep = torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.Conv3d(3, 4, (3, 3, 3), bias=False)
    weights = inflated({"weight": flat.weight.detach()}, {"weight": deep.weight.shape})
    deep.load_state_dict(weights)
    image = torch.randn(1, 3, 9, 9)
    still = image.unsqueeze(2).expand(-1, -1, 5, -1, -1)
    expected = flat(image).unsqueeze(2).expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(deep(still), expected, rtol=1e-4, atol=1e-5)


def test_old_files_without_batch_counters_load() -> None:
    state = published()
    assert_loads({key: value for key, value in state.items() if "num_batches" not in key}, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("Mixed_5c.b0.conv3d.weight"), "1 missing .Mixed_5c.b0.conv3d.weight"),
        (lambda state: state.update({"Mixed_6a.b0.bn.bias": torch.zeros(2)}), "1 unknown .Mixed_6a"),
        (
            lambda state: state.update({"Mixed_5c.b0.bn.bias": torch.zeros(2)}),
            "1 of another shape .*instead of",
        ),
        (lambda state: [state.pop(key) for key in list(state)[:60]], "and 4. more"),
    ],
)
def test_misfits_are_named_and_change_nothing(change: Any, message: str) -> None:
    state, backbone = published(), build_backbone("i3d", width=1 / 16)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    change(state)
    with pytest.raises(WeightsError, match=message):
        load_backbone_weights(backbone, state, source="test")
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_both_formats_read_back() -> None:
    state = published()
    for data in (save_safetensors(state), torch_bytes(state), torch_bytes({"state_dict": state, "epoch": 3})):
        read = read_weights(data, source="test")
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], value) for key, value in state.items())


def test_a_file_with_its_codes_command_line_is_read_and_others_are_refused_in_one_line() -> None:
    state = {"weight": torch.ones(2)}
    content = {"model": state, "args": argparse.Namespace(lr=0.1, data="/videos"), "epoch": 3}
    assert torch.equal(read_weights(torch_bytes(content), source="x")["weight"], state["weight"])
    with pytest.raises(WeightsError) as caught:
        read_weights(torch_bytes({"model": state, "args": pickle.Unpickler}), source="x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x10\0\0\0\0\0\0\0{"]),
    rest=st.binary(max_size=40),
)
def test_any_bytes_are_read_or_refused_in_one_way(start: bytes, rest: bytes) -> None:
    with pytest.raises(WeightsError):
        read_weights(start + rest, source="test")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not weights",
        pickle.dumps(Bomb(), protocol=2),
        torch_bytes(Bomb()),
        torch_bytes([1, 2]),
        torch_bytes({"a": 1}),
        save_safetensors({"a": torch.ones(3)})[:-4],
    ],
    ids=["empty", "text", "pickle", "zipped-pickle", "list", "no-tensors", "cut"],
)
def test_anything_else_is_refused_without_running_it(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match=r"^x\.pt: "):
        read_weights(data, source="x.pt")
    assert "code ran" not in capsys.readouterr().out
