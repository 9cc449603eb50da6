import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.rng import Draws
from pal_ds.data.synthesis.sampling import clamp_stride, draw_background, draw_clip, draw_look, draw_pairs

seeds = st.integers(0, 2**32)


def drawn(seed, frames=300, height=128, width=170, synthesis=None, augment=None):
    return draw_clip(
        seed,
        0,
        "clip",
        frames=frames,
        height=height,
        width=width,
        synthesis=synthesis or SynthesisConfig(),
        augment=augment or AugmentConfig(),
    )


@given(seeds, st.integers(1, 400), st.sampled_from(["span", "clip"]))
@settings(max_examples=300, deadline=None)
def test_regions_fit_view_and_video(seed, frames, mode):
    synthesis = SynthesisConfig(stride_mode=mode)
    for region in drawn(seed, frames, synthesis=synthesis).regions:
        assert 1 <= region.length <= 6
        assert 0 <= region.start <= 8 - region.length
        assert len(region.frames) == 8 * region.length
        assert ((region.frames >= 0) & (region.frames < frames)).all()
        assert 1 <= region.stride <= 4
        if frames >= 8 * region.length:
            assert (np.diff(region.frames) > 0).all(), "a region that fits is not wrapped"
        steps = np.diff(region.frames.reshape(-1, 8), axis=1) % frames
        assert (steps == region.stride % frames).all(), "the used stride is the recorded one"
        if mode == "span" and region.stride > 1:
            assert (8 * region.length - 1) * region.stride < frames


def test_stride_is_clamped_to_the_largest_that_fits():
    assert clamp_stride(4, 48, 48 * 4) == 4
    assert clamp_stride(4, 48, 47 * 4 + 1) == 4
    assert clamp_stride(4, 48, 47 * 4) == 3
    assert clamp_stride(4, 48, 100) == 2
    assert clamp_stride(4, 48, 10) == 1


def test_clip_mode_keeps_the_distance_of_clips_and_scales_inside():
    synthesis = SynthesisConfig(stride_mode="clip", region_min=3, region_max=3)
    regions = [drawn(seed, synthesis=synthesis).regions[0] for seed in range(40)]
    assert {tuple(np.diff(region.frames.reshape(3, 8)[:, 0])) for region in regions} == {(32, 32)}
    assert {region.stride for region in regions} == {1, 2, 3, 4}


@given(seeds, st.integers(1, 400), st.sampled_from(["uniform", "random"]), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_backgrounds_are_eight_clips_in_order_of_time(seed, frames, sampling, stride):
    synthesis = SynthesisConfig(background_sampling=sampling, background_stride=stride)
    indices, used = draw_background(Draws(seed, 0, "a", "b"), frames, synthesis)
    clips = indices.reshape(8, 8)
    assert ((clips >= 0) & (clips < frames)).all()
    assert 1 <= used <= stride
    assert (np.diff(clips[:, 0]) >= 0).all()
    if frames >= 64:
        assert used * 64 <= frames
        assert (np.diff(clips, axis=1) == used).all()
    if frames >= 64 and sampling == "uniform":
        assert clips[0, 0] == 0
        assert clips[-1, -1] == frames - 1
        assert (np.diff(clips[:, 0]) >= 8 * used - 1).all()


@given(st.integers(3, 40), seeds, st.sampled_from(["different", "same"]))
@settings(max_examples=200, deadline=None)
def test_backgrounds_are_derangements(size, seed, paste):
    keys = [f"clip-{number}" for number in range(size)]
    pairs = draw_pairs(seed, 0, keys, paste)
    everyone = list(range(size))
    for view in (0, 1):
        assert sorted(pairs[:, view]) == everyone, "every video is a background once per view"
        assert (pairs[:, view] != everyone).all()
    assert ((pairs[:, 0] == pairs[:, 1]) == (paste == "same")).all()


def test_all_ordered_pairs_of_backgrounds_are_equally_likely():
    keys = [f"clip-{number}" for number in range(5)]
    seen = [tuple(draw_pairs(seed, 0, keys, "different")[2]) for seed in range(6000)]
    counts = np.array([seen.count(pair) for pair in set(seen)])
    assert len(counts) == 12
    assert (np.abs(counts - 500) < 5 * np.sqrt(500)).all()


def test_pairs_depend_on_the_order_of_the_keys():
    keys = [f"clip-{number}" for number in range(16)]
    assert (draw_pairs(0, 0, keys, "different") != draw_pairs(0, 0, keys[::-1], "different")).any()


@given(seeds, st.integers(8, 300), st.integers(8, 500))
@settings(max_examples=200, deadline=None)
def test_crops_lie_in_the_frame(seed, height, width):
    look = draw_look(Draws(seed, 0, "a", "b"), height, width, AugmentConfig())
    top, left, crop_height, crop_width = look.crop
    assert 0 <= top <= height - crop_height
    assert 0 <= left <= width - crop_width
    assert crop_height >= 1
    assert crop_width >= 1
    if max(height, width) <= 2 * min(height, width) and min(height, width) > 32:
        assert 0.19 <= crop_height * crop_width / (height * width) <= 1
        assert 0.7 <= crop_width / crop_height <= 1.4


def test_looks_follow_their_probabilities_and_ranges():
    looks = [draw_look(Draws(seed, 0, "a", "b"), 128, 170, AugmentConfig()) for seed in range(3000)]

    def share(values):
        return np.mean(list(values))

    assert share(look.flip for look in looks) == pytest.approx(0.5, abs=0.05)
    assert share(look.grey for look in looks) == pytest.approx(0.2, abs=0.04)
    assert share(look.blur > 0 for look in looks) == pytest.approx(0.5, abs=0.05)
    assert share(look.brightness != 1 for look in looks) == pytest.approx(0.8, abs=0.04)
    assert min(look.contrast for look in looks) >= 0.6
    assert max(look.hue for look in looks) <= 0.1
    assert {0.1 <= look.blur <= 2.0 for look in looks if look.blur} == {True}


def test_switched_off_augmentation_is_the_identity():
    off = AugmentConfig(crop="center", flip_p=0, jitter_p=0, grey_p=0, blur_p=0)
    look = draw_look(Draws(5, 0, "a", "b"), 100, 150, off)
    assert dataclasses.astuple(look) == ((0, 25, 100, 100), False, 1.0, 1.0, 1.0, 0.0, False, 0.0)


def test_a_clip_draws_alike_wherever_it_is_and_differently_in_other_epochs():
    def key(epoch, name):
        made = draw_clip(
            3,
            epoch,
            name,
            frames=300,
            height=64,
            width=64,
            synthesis=SynthesisConfig(),
            augment=AugmentConfig(),
        )
        return str(made)

    assert key(0, "a") == key(0, "a")
    assert len({key(0, "a"), key(1, "a"), key(0, "b")}) == 3


def test_views_and_roles_are_drawn_apart():
    made = drawn(11)
    assert len({str(look) for look in (*made.region_looks, *made.background_looks)}) == 4
    assert str(made.regions[0]) != str(made.regions[1])


def test_ablations_are_settings():
    fixed = drawn(1, synthesis=SynthesisConfig(stride_min=1, stride_max=1))
    assert {region.stride for region in fixed.regions} == {1}
    alone = drawn(1, synthesis=SynthesisConfig(paste="none", region_min=1, region_max=1))
    assert [(region.start, region.length) for region in alone.regions] == [(0, 1), (0, 1)]
    assert len(alone.background) == 0
    opaque = drawn(1, synthesis=SynthesisConfig(beta_min=1, beta_max=1))
    assert set(opaque.regions[0].beta) == {1.0}
    assert len(set(drawn(1).regions[0].beta)) == 1
    assert len(set(drawn(1, synthesis=SynthesisConfig(beta_scope="clip")).regions[0].beta)) == 8


def test_draws_are_pinned():
    """A change here breaks the resume of every existing run."""
    draws = Draws(7, 1, "subject", "purpose")
    assert draws.uniform(2).tolist() == [0.003190331499452692, 0.500831202004786]
    assert draws.permutation(6).tolist() == [3, 0, 4, 1, 5, 2]
    assert [draws.integer(1, 6) for _ in range(8)] == [1, 6, 2, 2, 3, 3, 6, 4]
