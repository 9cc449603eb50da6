"""The file for OpenTAD keeps the contract of its backbone wrapper: shapes, masks, freezing, values."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pal_ds.cli.pretrain import main
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.extraction.frozen_encoder import ClipEncoder
from tests.support.extract_fixtures import write_checkpoint
from tests.support.opentad_contract import FakeRegistry, Wrapper, mmengine


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opentad")
    write_checkpoint(folder / "run")
    assert main(["export", str(folder / "run"), "--opentad", str(folder / "out"), "--license", "mit"]) == 0
    return folder / "out"


@pytest.fixture
def registry(exported: Path) -> Iterator[FakeRegistry]:
    """OpenTAD's registry after the file was dropped in and imported."""
    with mmengine() as found:
        spec = importlib.util.spec_from_file_location("dropped_in", exported / "pal_opentad.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["dropped_in"] = module
        try:
            spec.loader.exec_module(module)
            yield found
        finally:
            del sys.modules["dropped_in"]


@pytest.fixture
def config(exported: Path) -> dict[str, Any]:
    """The part of a config that was written, as mmengine reads it."""
    names: dict[str, Any] = {}
    code = compile((exported / "pal_config.py").read_text(), "pal_config.py", "exec")
    exec(code, {"dict": dict}, names)
    return names


def build(registry: FakeRegistry, config: dict[str, Any], **more: Any) -> Any:
    backbone = dict(config["model"]["backbone"])
    custom = backbone.pop("custom")
    assert custom["pretrain"] is None
    return registry.build({**backbone, **more})


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_snippets_give_the_features_that_extraction_gives(
    registry: FakeRegistry, config: dict[str, Any], exported: Path
) -> None:
    frames = pixels(2, 5, 3, config["clip_len"], config["crop_size"], config["crop_size"])
    masks = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    encoder = ClipEncoder(*load_backbone(str(exported / "encoder")))
    clips_btkchw = frames.flatten(0, 1).transpose(1, 2)[:, :, None]
    wanted = encoder.encode(clips_btkchw).view(2, 5, -1).transpose(1, 2) * masks[:, None]
    for output in ("volume", "vector"):
        wrapper = Wrapper(build(registry, config, output=output)).eval()
        found = wrapper(frames, masks)
        assert found.shape == (2, config["model"]["projection"]["in_channels"], 5)
        assert found.dtype == torch.float32
        assert not found.requires_grad
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert not found[1, :, 3:].any()
        torch.testing.assert_close(wrapper(frames), wrapper(frames, torch.ones(2, 5)))


def test_one_long_clip_is_encoded_in_parts(registry: FakeRegistry, config: dict[str, Any]) -> None:
    parts, length, size = 3, config["clip_len"] * 2, config["crop_size"]
    frames = pixels(2, 1, 3, parts * length, size, size)
    wrapper = Wrapper(build(registry, config), chunks=parts).eval()
    found = wrapper(frames, torch.ones(2, parts * 2))
    # I3D halves time three times: two steps for each part of 16 frames.
    assert found.shape == (2, config["model"]["projection"]["in_channels"], parts * 2)
    alone = Wrapper(build(registry, config), chunks=1).eval()(frames[:, :, :, length : 2 * length])
    torch.testing.assert_close(found[:, :, 2:4], alone, rtol=1e-4, atol=1e-4)


def test_the_encoder_is_trained_where_the_wrapper_lets_it(
    registry: FakeRegistry, config: dict[str, Any]
) -> None:
    frames = pixels(1, 2, 3, config["clip_len"], config["crop_size"], config["crop_size"])
    gradients = []
    for recompute in (False, True):
        model = build(registry, config, frozen_stages=2, recompute=recompute)
        wrapper = Wrapper(model, freeze=False).train()
        wrapper(frames).square().mean().backward()
        stages = model.backbone.network.stages()
        frozen = [value for stage in stages[:2] for module in stage for value in module.parameters()]
        assert frozen
        assert all(value.grad is None and not value.requires_grad for value in frozen)
        weights = [value for stage in stages[2:] for module in stage for value in module.parameters()]
        moved = [value.grad for value in weights if value.requires_grad]
        assert all(value.isfinite().all() for value in moved)
        gradients.append(torch.cat([value.flatten() for value in moved if value is not None]))
        assert not any(module.training for stage in stages[:2] for part in stage for module in part.modules())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_copy_for_averaging_and_a_checkpoint_of_the_detector(
    registry: FakeRegistry, config: dict[str, Any]
) -> None:
    wrapper = Wrapper(build(registry, config)).eval()
    frames = pixels(1, 1, 3, config["clip_len"], config["crop_size"], config["crop_size"])
    averaged = copy.deepcopy(wrapper)
    torch.testing.assert_close(averaged(frames), wrapper(frames))
    state = wrapper.state_dict()
    assert all(name.startswith("model.backbone.network.") for name in state)
    for value in state.values():
        value.zero_()
    assert not wrapper(frames).any()
    wrapper.load_state_dict(averaged.state_dict(), strict=True)
    torch.testing.assert_close(averaged(frames), wrapper(frames))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"output": "map"}, "output = 'map': use one of volume, vector"),
        ({"frozen_stages": 99}, "has 11 stages"),
        ({"folder": "/nowhere"}, "no such run"),
    ],
)
def test_wrong_settings_are_told(
    registry: FakeRegistry, config: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        build(registry, config, **wrong)


def test_pal_ds_itself_registers_nothing() -> None:
    with mmengine() as found:
        sys.modules.pop("pal_ds.transfer.export.opentad_backbone", None)
        importlib.import_module("pal_ds.transfer.export.opentad_backbone")
        assert found.modules == {}
