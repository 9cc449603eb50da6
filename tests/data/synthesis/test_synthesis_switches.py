"""Every switch of synthesis and augmentation changes what it names and nothing else: one table."""

import dataclasses

import numpy as np
import pytest
import torch

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.synthesis.render import render
from pal_ds.data.synthesis.sampling import draw_clip
from pal_ds.formats.tar_samples import SampleMembers
from tests.support.group_building import built
from tests.support.tiny_shards import HEIGHT, WIDTH, encode, sample

SYNTHESIS = SynthesisConfig(size=24)
AUGMENT = AugmentConfig(crop="center", flip_p=0, jitter_p=0, grey_p=0, blur_p=0)
FRAMES = 260

ACTION = {"length", "start", "action frames", "pixels inside", "pixels outside"}
GROUND = {"background frames", "pixels inside", "pixels outside"}
PIXELS = {"pixels inside", "pixels outside"}
#: (settings, what may change, what must change)
SYNTHESIS_SWITCHES = [
    ({"paste": "same"}, {"background video", *PIXELS}, {"background video", "pixels outside"}),
    ({"paste": "own"}, {"background video", *PIXELS}, {"background video", "pixels outside"}),
    (
        {"paste": "none", "region_min": 8, "region_max": 8},
        {*ACTION, *GROUND, "stride", "background video", "background stride"},
        {"background frames", "background video"},
    ),
    ({"stride_max": 1}, {"stride", "action frames", "pixels inside"}, {"stride", "action frames"}),
    ({"stride_min": 4}, {"stride", "action frames", "pixels inside"}, {"stride", "action frames"}),
    ({"stride_mode": "clip"}, {"stride", "action frames", "pixels inside"}, {"action frames"}),
    ({"region_max": 2}, {*ACTION, "stride"}, {"length"}),
    ({"region_min": 6}, {*ACTION, "stride"}, {"length"}),
    ({"background_stride": 1}, {*GROUND, "background stride"}, {"background frames", "background stride"}),
    ({"background_sampling": "random"}, GROUND, {"background frames"}),
    ({"beta_min": 1.0}, {"beta", "pixels inside"}, {"beta", "pixels inside"}),
    ({"beta_min": 0.0, "beta_max": 0.4}, {"beta", "pixels inside"}, {"beta", "pixels inside"}),
    ({"beta_scope": "clip"}, {"beta", "pixels inside"}, {"beta", "pixels inside"}),
]
AUGMENT_SWITCHES = [
    ({"crop": "random"}, {"crop"}),
    ({"flip_p": 1}, {"flip"}),
    ({"grey_p": 1}, {"grey"}),
    ({"blur_p": 1}, {"blur"}),
    ({"jitter_p": 1, "contrast": 0, "saturation": 0, "hue": 0}, {"brightness"}),
    ({"jitter_p": 1, "brightness": 0, "saturation": 0, "hue": 0}, {"contrast"}),
    ({"jitter_p": 1, "brightness": 0, "contrast": 0, "hue": 0}, {"saturation"}),
    ({"jitter_p": 1, "brightness": 0, "contrast": 0, "saturation": 0}, {"hue"}),
]


def _name(value):
    """Settings as the test's name: a set would be written in another order by every process."""
    return str(value)[:60] if isinstance(value, dict) else ""


@pytest.fixture(scope="module")
def clips():
    made = []
    for seed in range(5):
        record, video = sample(f"{seed}.mp4", encode(seed, FRAMES), FRAMES)
        made.append(SampleMembers(key=record.key, video=video, video_extension="mp4", record=record))
    return made


def observed(clips, synthesis, augment=AUGMENT):
    """What can be told apart in a group: drawn numbers of all videos, pixels of all views."""
    drawn = [
        draw_clip(
            5, 0, clip.key, frames=FRAMES, height=HEIGHT, width=WIDTH, synthesis=synthesis, augment=augment
        )
        for clip in clips
    ]
    group = built(clips, synthesis, augment, seed=5)
    regions = [region for each in drawn for region in each.regions]
    seen = {
        "length": [region.length for region in regions],
        "start": [region.start for region in regions],
        "stride": [region.stride for region in regions],
        "action frames": [region.frames.tolist() for region in regions],
        "beta": [region.beta for region in regions],
        "background frames": [each.background.tolist() for each in drawn],
        "background stride": [each.background_stride for each in drawn],
        "background video": group.pairs.tolist(),
    }
    looks = [look for each in drawn for look in (*each.region_looks, *each.background_looks)]
    seen |= {
        field.name: [getattr(look, field.name) for look in looks] for field in dataclasses.fields(looks[0])
    }
    micro = MicroBatch(groups=(group,), epoch=0, step=0, micro_step=0, replaced=[])
    return seen, render(micro, synthesis, augment)


def changed(before, now):
    """Names of what differs; pixels are compared inside and outside the regions of the first."""
    (numbers, views), (numbers_now, views_now) = before, now
    found = {name for name, value in numbers.items() if value != numbers_now[name]}
    for name in ("query", "key"):
        one, two = views[f"{name}_bjcthw"], views_now[f"{name}_bjcthw"]
        clip = torch.arange(one.shape[1])
        start, length = views[f"{name}_region_b2"].T
        inside = (clip >= start[:, None]) & (clip < (start + length)[:, None])
        if not torch.equal(one[inside], two[inside]):
            found.add("pixels inside")
        if not torch.equal(one[~inside], two[~inside]):
            found.add("pixels outside")
    return found


@pytest.mark.parametrize(("settings", "may", "must"), SYNTHESIS_SWITCHES, ids=_name)
def test_a_switch_of_synthesis_changes_what_it_names(clips, settings, may, must):
    before = observed(clips, SYNTHESIS)
    found = changed(before, observed(clips, dataclasses.replace(SYNTHESIS, **settings)))
    assert found <= may
    assert must <= found


@pytest.mark.parametrize(("settings", "looks"), AUGMENT_SWITCHES, ids=_name)
def test_a_switch_of_augmentation_changes_its_part_of_the_look(clips, settings, looks):
    before = observed(clips, SYNTHESIS)
    found = changed(before, observed(clips, SYNTHESIS, dataclasses.replace(AUGMENT, **settings)))
    assert found == {*looks, "pixels inside", "pixels outside"}


def test_without_paste_a_view_is_the_action_and_no_background_pixel(clips):
    """Other videos' pixels may be anything: the views of one video do not change."""
    synthesis = SynthesisConfig(size=24, paste="none", region_min=4, region_max=4)
    views = observed(clips, synthesis)[1]
    others = observed([clips[0], *clips[:0:-1]], synthesis)[1]
    for name in ("query", "key"):
        assert views[f"{name}_bjcthw"].shape[1] == 4
        assert torch.equal(views[f"{name}_bjcthw"][0], others[f"{name}_bjcthw"][0])
    pasted = SynthesisConfig(size=24, region_min=4, region_max=4)
    views, others = (observed(order, pasted)[1] for order in (clips, [clips[0], *clips[:0:-1]]))
    assert not torch.equal(views["query_bjcthw"][0], others["query_bjcthw"][0]), "the comparison can fail"


def test_fixed_strides_are_fixed(clips):
    for stride in (1, 2):
        numbers, _ = observed(clips, dataclasses.replace(SYNTHESIS, stride_min=stride, stride_max=stride))
        assert set(numbers["stride"]) == {stride}
        assert {step for frames in numbers["action frames"] for step in np.diff(frames)} == {stride}
