import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.synthesis.render import render
from pal_ds.data.synthesis.slot_layout import resized

PLAIN = AugmentConfig(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
SYNTHESIS = SynthesisConfig(size=16, clips=4, clip_frames=2, region_max=3)
REGIONS = [[(0, 2), (1, 3)], [(2, 1), (0, 1)], [(3, 1), (1, 2)]]


def group_of(
    source,
    *,
    paste=True,
    flip=False,
    blur=0.0,
    colour=None,
    contrast=0.0,
    beta=0.75,
    side=20,
    regions=REGIONS,
):
    """A group of three videos; ``source(role, video, view, frames, side)`` gives the pixels of each source."""
    pixels, rows, offset = [], [], 0
    for role in ("region", "background")[: 2 if paste else 1]:
        for video in range(3):
            for view in range(2):
                frames = regions[video][view][1] * 2 if role == "region" else 8
                made = torch.as_tensor(source(role, video, view, frames, side), dtype=torch.uint8)
                pixels.append(made.reshape(-1))
                rows.append((offset, frames, side, side, side * 3, side * side * 3))
                offset += made.numel()
    count = len(rows)
    return Group(
        pixels=torch.cat(pixels),
        sources=np.array(rows),
        flip=np.full(count, flip),
        blur=np.full(count, blur, dtype=np.float32),
        colour=(torch.eye(3) if colour is None else colour).expand(count, 3, 3).clone(),
        contrast=torch.full((count,), contrast),
        region=torch.tensor(regions),
        beta=torch.full((3, 2, 4), beta),
        pairs=torch.tensor([[1, 2], [2, 0], [0, 1]]),
        labels=torch.tensor([-1, -1, -1]),
        digest=bytes(8),
        keys=["a", "b", "c"],
        epoch=0,
        step=0,
        number=0,
        info=[],
    )


def batch_of(*groups):
    return MicroBatch(groups=groups, epoch=0, step=0, micro_step=0, replaced=[])


def noise(role, video, view, frames, side):
    rng = np.random.default_rng([("region", "background").index(role), video, view])
    return rng.integers(0, 256, (frames, side, side, 3))


def still(role, video, view, frames, side):
    return np.broadcast_to(noise(role, video, view, 1, side), (frames, side, side, 3)).copy()


def plain_frames(group, row):
    return resized(group.frames(row), 16).permute(0, 3, 1, 2).float() / 255


def test_views_are_the_papers_blend_inside_the_region_and_background_elsewhere():
    group = group_of(noise)
    views = render(batch_of(group), SYNTHESIS, PLAIN)
    for video in range(3):
        for view, name in enumerate(("query", "key")):
            background = plain_frames(group, group.row("background", int(group.pairs[video, view]), view))
            action = plain_frames(group, group.row("region", video, view))
            start, length = REGIONS[video][view]
            expected = background.clone()
            inside = slice(2 * start, 2 * (start + length))
            expected[inside] = 0.75 * action + 0.25 * background[inside]
            got = views[f"{name}_bjcthw"][video]
            assert got.shape == (4, 3, 2, 16, 16)
            assert torch.allclose(got.transpose(1, 2).reshape(8, 3, 16, 16), expected, atol=1e-5)
            assert views[f"{name}_region_b2"][video].tolist() == [start, length]
    assert views["labels_b"] is None


def test_everything_of_a_view_is_normalised_alike():
    group = group_of(noise)
    plain = render(batch_of(group), SYNTHESIS, PLAIN)["key_bjcthw"]
    normalised = render(batch_of(group), SYNTHESIS, AugmentConfig())["key_bjcthw"]
    mean, std = (
        torch.tensor(value).view(3, 1, 1, 1) for value in (AugmentConfig().mean, AugmentConfig().std)
    )
    assert torch.allclose(normalised, (plain - mean) / std, atol=1e-5)
    assert normalised.dtype == torch.float32


@pytest.mark.parametrize("blur", [0.0, 1.3])
def test_a_video_of_identical_frames_stays_identical(blur):
    turned = torch.tensor([[0.6, 0.3, 0.0], [0.1, 0.7, 0.1], [0.0, 0.2, 0.9]])
    group = group_of(still, flip=True, blur=blur, colour=turned, contrast=0.2)
    views = render(batch_of(group), SYNTHESIS, AugmentConfig())
    for name in ("query", "key"):
        frames = views[f"{name}_bjcthw"].transpose(2, 3).reshape(3, 8, 3, 16, 16)
        for video in range(3):
            start, length = views[f"{name}_region_b2"][video].tolist()
            inside = list(range(2 * start, 2 * (start + length)))
            outside = [frame for frame in range(8) if frame not in inside]
            for part in filter(None, (inside, outside)):
                assert (frames[video, part] == frames[video, part[0]]).all()


def test_every_source_has_its_own_augmentation():
    group = group_of(lambda role, video, view, frames, side: still("region", 0, 0, frames, side), beta=1.0)
    group.colour[:] = torch.eye(3) * torch.linspace(0.2, 0.9, len(group.colour)).view(-1, 1, 1)
    views = render(batch_of(group), SYNTHESIS, PLAIN)
    first = [views[f"{name}_bjcthw"][video, :, :, 0] for video in range(3) for name in ("query", "key")]
    levels = {round(float(clip.mean()), 4) for clips in first for clip in clips}
    assert len(levels) == 6 + 6, "six regions and six backgrounds, each with its own brightness"


def test_flip_mirrors_every_frame():
    plain = render(batch_of(group_of(noise, side=16)), SYNTHESIS, PLAIN)["query_bjcthw"]
    flipped = render(batch_of(group_of(noise, side=16, flip=True)), SYNTHESIS, PLAIN)["query_bjcthw"]
    assert torch.equal(flipped, plain.flip(-1))


def test_contrast_keeps_the_mean_grey_of_the_source():
    contrast = 0.5
    group = group_of(noise, beta=1.0, colour=contrast * torch.eye(3), contrast=1 - contrast)
    plain = render(batch_of(group_of(noise, beta=1.0)), SYNTHESIS, PLAIN)["query_bjcthw"]
    softer = render(batch_of(group), SYNTHESIS, PLAIN)["query_bjcthw"]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)
    start, length = REGIONS[0][0]
    before, after = ((view[0, start : start + length] * weights).sum(1).mean() for view in (plain, softer))
    assert torch.allclose(before, after, atol=1e-4)
    assert softer[0, 0].std() < 0.6 * plain[0, 0].std()


def test_blur_is_a_gaussian_with_mirrored_edges():
    sigma = 1.5
    group = group_of(noise, blur=sigma, side=16)
    blurred = render(batch_of(group), SYNTHESIS, PLAIN)["query_bjcthw"]
    sharp = render(batch_of(dataclasses.replace(group, blur=0 * group.blur)), SYNTHESIS, PLAIN)[
        "query_bjcthw"
    ]
    offsets = torch.arange(-5, 6).float()
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    frames = sharp.transpose(2, 3).reshape(-1, 1, 16, 16)
    expected = F.conv2d(F.pad(frames, (5, 5, 5, 5), mode="reflect"), kernel[None, None])
    assert torch.allclose(blurred.transpose(2, 3).reshape(-1, 1, 16, 16), expected, atol=1e-4)


def test_colours_are_kept_between_black_and_white():
    views = render(batch_of(group_of(noise, colour=3 * torch.eye(3))), SYNTHESIS, PLAIN)
    assert views["query_bjcthw"].max() <= 1
    assert views["query_bjcthw"].min() >= 0


def test_without_pasting_a_view_is_the_region_alone():
    alone = dataclasses.replace(SYNTHESIS, paste="none", region_min=2, region_max=2)
    group = group_of(noise, paste=False, regions=[[(0, 2), (0, 2)]] * 3)
    group = dataclasses.replace(group, pairs=torch.full((3, 2), -1))
    views = render(batch_of(group), alone, PLAIN)
    assert views["query_bjcthw"].shape == (3, 2, 3, 2, 16, 16)
    expected = plain_frames(group, group.row("region", 1, 0))
    assert torch.allclose(views["query_bjcthw"][1].transpose(1, 2).reshape(4, 3, 16, 16), expected, atol=1e-6)


def test_groups_of_a_micro_batch_are_independent_and_in_order():
    first, second = group_of(noise), group_of(still)
    both = render(batch_of(first, second), SYNTHESIS, AugmentConfig())
    alone = render(batch_of(second), SYNTHESIS, AugmentConfig())
    assert torch.equal(both["key_bjcthw"][3:], alone["key_bjcthw"])
    assert both["key_region_b2"].shape == (6, 2)


def test_labels_are_given_where_all_are_known():
    group = dataclasses.replace(group_of(noise), labels=torch.tensor([2, 0, 1]))
    assert render(batch_of(group), SYNTHESIS, PLAIN)["labels_b"].tolist() == [2, 0, 1]
