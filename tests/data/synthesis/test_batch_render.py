"""Rendering all videos together makes the pixels that one by one makes, in operators that don't grow."""

import dataclasses

import numpy as np
import pytest
import torch

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import joined_pixels
from pal_ds.data.synthesis import render, slot_layout
from pal_ds.data.synthesis.batch_render import VIEWS_AT_ONCE, gaussian_matrices, render_together, to_device
from tests.support import old_render
from tests.support.made_groups import Operators, as_before, made_batch

SYNTHESIS = SynthesisConfig(size=24, clips=4, clip_frames=2, region_max=3)
AUGMENT = AugmentConfig()
SMALL = {"height": 32, "width": 44}
GEOMETRIES = [
    SYNTHESIS,
    dataclasses.replace(SYNTHESIS, paste="own"),
    dataclasses.replace(SYNTHESIS, paste="none", region_min=3, region_max=3),
    dataclasses.replace(SYNTHESIS, views=1),
    dataclasses.replace(SYNTHESIS, views=3, beta_scope="clip"),
]


def in_order(views):
    """Views of the old form as [V, B, J, 3, T, H, W]."""
    rest = [clips for clips, _ in views["more_keys"]]
    return torch.stack(
        [view for view in (views["query_bjcthw"], views["key_bjcthw"], *rest) if view is not None]
    )


def grey_levels(found, expected, looks):
    """Absolute differences in grey levels of the picture."""
    std = torch.tensor(looks.std).view(3, 1, 1, 1)
    return (found.float() - expected).abs() * std * 255


def unrounded(frames_nhwc, size):
    """Resizing as it is on the CPU, without rounding to bytes."""
    if frames_nhwc.shape[1:3] == (size, size):
        return frames_nhwc.float()
    nchw = frames_nhwc.permute(0, 3, 1, 2).float()
    out = torch.nn.functional.interpolate(nchw, (size, size), mode="bilinear", antialias=True)
    return out.permute(0, 2, 3, 1)


@pytest.mark.parametrize("synthesis", GEOMETRIES, ids=lambda each: f"{each.paste}-{each.views}")
def test_a_cpu_renders_what_it_rendered_before(synthesis):
    micro = made_batch(2, 4, synthesis, AUGMENT, **SMALL)
    expected = old_render.render(as_before(micro), synthesis, AUGMENT)
    found = render.render(micro, synthesis, AUGMENT)
    assert grey_levels(in_order(found), in_order(expected), AUGMENT).max() < 0.01
    assert torch.equal(found["query_region_b2"], expected["query_region_b2"])


@pytest.mark.parametrize("synthesis", GEOMETRIES, ids=lambda each: f"{each.paste}-{each.views}")
@pytest.mark.parametrize(
    ("dtype", "levels"), [(torch.float32, 0.01), (torch.float16, 0.75), (torch.bfloat16, 1.0)], ids=str
)
def test_together_is_one_by_one(monkeypatch, synthesis, dtype, levels):
    """But for the bytes that one by one has between resizing and colour, which colours may stretch."""
    micro = made_batch(2, 4, synthesis, AUGMENT, **SMALL)
    monkeypatch.setattr(old_render, "resized", unrounded)
    expected = in_order(old_render.render(as_before(micro), synthesis, AUGMENT))
    found = render_together(micro.groups, synthesis, AUGMENT, dtype)
    assert (found.shape, found.dtype) == (expected.shape, dtype)
    assert grey_levels(found, expected, AUGMENT).max() < levels


@pytest.mark.parametrize("size", [24, 40], ids=["smaller", "larger"])
def test_where_colours_stay_the_bytes_between_cost_one_grey_level(size):
    looks = AugmentConfig(jitter_p=0, grey_p=0)
    synthesis = dataclasses.replace(SYNTHESIS, size=size)
    micro = made_batch(2, 5, synthesis, looks, **SMALL)
    expected = in_order(old_render.render(as_before(micro), synthesis, looks))
    found = render_together(micro.groups, synthesis, looks, torch.float32)
    assert grey_levels(found, expected, looks).max() <= 1.001


def test_with_colours_the_bytes_between_are_stretched_like_the_picture():
    """A draw of brightness, contrast and saturation multiplies a byte's rounding as it multiplies the byte."""
    micro = made_batch(2, 5, SYNTHESIS, AUGMENT, **SMALL)
    expected = in_order(old_render.render(as_before(micro), SYNTHESIS, AUGMENT))
    off = grey_levels(render_together(micro.groups, SYNTHESIS, AUGMENT, torch.float32), expected, AUGMENT)
    most = max(float(group.colour.abs().sum(dim=2).max()) for group in micro.groups)
    assert off.max() <= max(1.0, most)
    assert off.mean() < 0.25
    assert (off > 1).float().mean() < 0.01


def test_views_are_channels_last_and_written_once():
    micro = made_batch(1, 4, SYNTHESIS, AUGMENT, **SMALL)
    views = render_together(micro.groups, SYNTHESIS, AUGMENT, torch.float32)
    assert views[1].flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)


def test_operators_do_not_grow_with_videos():
    def count(groups):
        micro = made_batch(groups, 4, SYNTHESIS, AUGMENT, **SMALL).clone()
        with Operators() as operators, torch.no_grad():
            render_together(micro.groups, SYNTHESIS, AUGMENT, torch.float32)
        return operators.kernels

    at_once = VIEWS_AT_ONCE // (4 * SYNTHESIS.views)
    assert count(1) == count(at_once)
    assert count(2 * at_once) <= 2 * count(at_once)


def test_groups_that_lie_side_by_side_are_not_copied():
    memory = torch.arange(60, dtype=torch.uint8)
    first, second = (
        dataclasses.replace(group, pixels=part)
        for group, part in zip(
            made_batch(2, 3, SYNTHESIS, AUGMENT, **SMALL).groups, memory[6:].split([24, 30]), strict=True
        )
    )
    joined = joined_pixels((first, second))
    assert torch.equal(joined, memory[6:])
    assert joined.data_ptr() == memory[6:].data_ptr()
    apart = joined_pixels((second, first))
    assert torch.equal(apart, torch.cat((memory[30:], memory[6:30])))


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 2.0])
@pytest.mark.parametrize("size", [5, 24])
def test_blur_matrices_are_the_old_ones(sigma, size):
    (found,) = gaussian_matrices(torch.tensor([sigma]), size)
    expected = old_render._gaussian_matrix(size, sigma) if sigma else torch.eye(size)
    assert torch.allclose(found, expected, atol=1e-6)


def test_arrays_travel_together_and_arrive_as_they_were():
    arrays = {
        "a": np.arange(7, dtype=np.int32).reshape(7, 1),
        "b": np.linspace(0, 1, 5, dtype=np.float32),
        "c": np.arange(12, dtype=np.int64).reshape(3, 4).T,
    }
    there = to_device(arrays, torch.device("cpu"))
    assert all(np.array_equal(there[name].numpy(), array) for name, array in arrays.items())
    assert len({tensor.untyped_storage().data_ptr() for tensor in there.values()}) == 1


def test_the_cpu_resizes_bytes_as_workers_do():
    frames = torch.randint(0, 256, (2, 30, 20, 3), dtype=torch.uint8)
    assert slot_layout.resized(frames, 24).dtype == torch.uint8
