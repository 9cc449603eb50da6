"""Strides in seconds: equal times at every frame rate, exact, and nothing else of the draws moves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config import ConfigError
from pal_ds.config.objective import ObjectiveConfig, check_views
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.rng import Draws
from pal_ds.data.synthesis.sampling import ClipDraws, draw_background, draw_clip
from pal_ds.data.synthesis.timed_strides import spread

RATES = st.sampled_from([10.0, 23.976, 25.0, 29.97, 60.0, 120.0])
SECONDS = SynthesisConfig(stride_seconds=(0.04, 0.16))


def drawn(seed: int, fps: float, *, seconds: float = 30.0, synthesis: SynthesisConfig = SECONDS) -> ClipDraws:
    size = {"frames": max(1, round(seconds * fps)), "height": 72, "width": 96}
    return draw_clip(seed, 0, "k", **size, fps=fps, synthesis=synthesis, augment=AugmentConfig())


@given(st.integers(0, 2**32), RATES, RATES, st.sampled_from(["span", "clip"]))
@settings(max_examples=200, deadline=None)
def test_two_rates_show_the_same_times(seed: int, one: float, two: float, mode: str) -> None:
    synthesis = dataclasses.replace(SECONDS, stride_mode=mode)
    pairs = zip(
        drawn(seed, one, synthesis=synthesis).regions,
        drawn(seed, two, synthesis=synthesis).regions,
        strict=True,
    )
    for region, other in pairs:
        assert (region.start, region.length, region.beta) == (other.start, other.length, other.beta)
        times = [(part.frames - part.frames[0]) / fps for part, fps in ((region, one), (other, two))]
        # Each is the nearest frame: half a frame off at most, on either side.
        assert np.abs(times[0] - times[1]).max() <= 0.5 / one + 0.5 / two + 1e-9


@given(st.integers(0, 2**32), RATES, st.floats(0.05, 8))
@settings(max_examples=200, deadline=None)
def test_frames_lie_in_the_video_and_steps_between_the_bounds(seed: int, fps: float, seconds: float) -> None:
    frames = max(1, round(seconds * fps))
    made = drawn(seed, fps, seconds=seconds)
    for region in made.regions:
        assert ((region.frames >= 0) & (region.frames < frames)).all()
        if frames >= len(region.frames):
            assert (np.diff(region.frames) >= 0).all(), "a region that fits is not wrapped"
            mean = (region.frames[-1] - region.frames[0]) / (len(region.frames) - 1)
            assert mean <= 0.16 * fps + 1
    assert ((made.background >= 0) & (made.background < frames)).all()


def test_steps_are_uniform_between_the_bounds_where_there_is_room() -> None:
    synthesis = dataclasses.replace(SECONDS, region_min=2, region_max=2)
    steps = []
    for seed in range(400):
        region = drawn(seed, 60.0, seconds=60, synthesis=synthesis).regions[0]
        steps.append((region.frames[-1] - region.frames[0]) / 15 / 60)
    assert 0.039 < min(steps) < 0.045
    assert 0.155 < max(steps) < 0.161
    assert np.mean(steps) == pytest.approx(0.1, abs=0.005)


def test_a_run_of_frames_is_exact() -> None:
    assert spread(5, 2.4).tolist() == [0, 2, 5, 7, 10]
    assert spread(5, 0.5).tolist() == [0, 1, 1, 2, 2]
    fixed = dataclasses.replace(SECONDS, stride_seconds=(0.08, 0.08), region_min=1, region_max=1)
    frames = drawn(0, 25.0, synthesis=fixed).regions[0].frames
    assert (np.diff(frames) == 2).all()


def test_equal_strides_in_frames_and_seconds_are_the_same_frames_but_for_the_draw_of_the_stride() -> None:
    timed = dataclasses.replace(SECONDS, stride_seconds=(0.08, 0.08), background_seconds=0.16)
    counted = SynthesisConfig(stride_min=2, stride_max=2)
    size = {"frames": 400, "synthesis": timed, "fps": 25.0}
    background, stride = draw_background(Draws(0, 0, "a", "b"), **size)
    other, other_stride = draw_background(Draws(0, 0, "a", "b"), 400, counted)
    assert (background == other).all()
    assert stride == other_stride == 4
    assert drawn(1, 25.0, synthesis=timed).region_looks == drawn(1, 25.0, synthesis=counted).region_looks


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"stride_seconds": (0.1,)}, "stride_seconds"),
        ({"stride_seconds": (0.2, 0.1)}, "stride_seconds"),
        ({"stride_seconds": (0.0, 0.1)}, "stride_seconds"),
        ({"stride_seconds": (0.1, 0.2), "stride_max": 2}, "stride_max"),
        ({"stride_seconds": (0.1, 0.2), "stride_min": 2}, "stride_min"),
        ({"stride_seconds": (0.1, 0.2), "background_stride": 1}, "background_stride"),
        ({"stride_seconds": (0.1, 0.2), "background_seconds": -1.0}, "background_seconds"),
        ({"background_seconds": 0.1}, "background_seconds"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SynthesisConfig(**options)
    assert caught.value.field == f"synthesis.{field}"


def test_a_rate_is_needed() -> None:
    with pytest.raises(ValueError, match="frame rate"):
        draw_clip(0, 0, "k", frames=100, height=8, width=8, synthesis=SECONDS, augment=AugmentConfig())


def test_objectives_of_several_speeds_want_one_stride() -> None:
    objective = ObjectiveConfig(name="rspnet")
    run = {"paste": "none", "region_min": 8, "region_max": 8}
    check_views(objective, SynthesisConfig(**run, stride_seconds=(0.08, 0.08)), 8)
    with pytest.raises(ConfigError, match="stride_seconds"):
        check_views(objective, SynthesisConfig(**run, stride_seconds=(0.04, 0.08)), 8)
