"""More or fewer views of a sample, and pasting into the action's own video: only what is asked for is made."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import MicroBatch
from pal_ds.data.synthesis.render import render
from pal_ds.data.synthesis.sampling import draw_clip, draw_pairs
from pal_ds.data.synthesis.slot_layout import slot_bytes
from pal_ds.formats.tar_samples import SampleMembers
from tests.support.group_building import built
from tests.support.tiny_shards import HEIGHT, WIDTH, encode, sample

PLAIN = AugmentConfig(
    crop="center", flip_p=0, jitter_p=0, grey_p=0, blur_p=0, mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0]
)


@pytest.fixture(scope="module")
def clips():
    made = []
    for seed in range(5):
        record, video = sample(f"{seed}.mp4", encode(seed, 90), 90)
        made.append(SampleMembers(key=record.key, video=video, video_extension="mp4", record=record))
    return made


def drawn(synthesis, key="clip"):
    return draw_clip(
        3, 0, key, frames=90, height=HEIGHT, width=WIDTH, synthesis=synthesis, augment=AugmentConfig()
    )


def rendered(group, synthesis):
    micro = MicroBatch(groups=(group,), epoch=0, step=0, micro_step=0, replaced=[])
    return render(micro, synthesis, PLAIN)


@given(st.integers(5, 24), st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_every_view_has_another_background(size, seed, views):
    keys = [f"clip-{number}" for number in range(size)]
    pairs = draw_pairs(seed, 0, keys, "different", views)
    assert pairs.shape == (size, views)
    for row, backgrounds in enumerate(pairs.tolist()):
        assert len({row, *backgrounds}) == views + 1
    assert all(sorted(pairs[:, view]) == list(range(size)) for view in range(views))


def test_the_first_views_are_the_same_however_many_follow():
    keys = [f"clip-{number}" for number in range(8)]
    most = drawn(SynthesisConfig(views=4))
    for views in (1, 2, 3):
        fewer = drawn(SynthesisConfig(views=views))
        assert str(fewer.regions) == str(most.regions[:views])
        assert fewer.background_looks == most.background_looks[:views]
        pairs = draw_pairs(5, 0, keys, "different", views)
        assert (pairs == draw_pairs(5, 0, keys, "different", 4)[:, :views]).all()
    assert len({str(region) for region in most.regions}) == 4


def test_own_backgrounds_are_the_videos_themselves():
    assert draw_pairs(5, 0, ["a", "b", "c"], "own").tolist() == [[0, 0], [1, 1], [2, 2]]


def test_own_paste_shows_one_video_only(clips):
    synthesis = SynthesisConfig(size=24, paste="own", beta_min=1, beta_max=1)
    views = rendered(built(clips, synthesis, PLAIN), synthesis)
    alone = rendered(built([clips[0], *clips[:0:-1]], synthesis, PLAIN), synthesis)
    assert torch.equal(views["query_bjcthw"][0], alone["query_bjcthw"][0]), "no other video has a part in it"
    start, length = views["query_region_b2"][0].tolist()
    assert length < 8
    outside = [clip for clip in range(8) if not start <= clip < start + length]
    other = SynthesisConfig(size=24, paste="own", beta_min=0, beta_max=0)
    ground = rendered(built(clips, other, PLAIN), other)
    assert torch.equal(views["query_bjcthw"][0, outside], ground["query_bjcthw"][0, outside])
    assert not torch.equal(views["query_bjcthw"][0], ground["query_bjcthw"][0])


def test_one_view_ships_and_renders_no_key(clips):
    one, two = SynthesisConfig(size=24, views=1), SynthesisConfig(size=24)
    query_only, both = built(clips, one, PLAIN), built(clips, two, PLAIN)
    assert len(query_only.sources) * 2 == len(both.sources)
    assert query_only.pixels.numel() < both.pixels.numel()
    assert slot_bytes(one, 8, "device") * 2 == slot_bytes(two, 8, "device")
    views = rendered(query_only, one)
    assert views["key_bjcthw"] is None
    assert views["key_region_b2"] is None
    assert torch.equal(views["query_bjcthw"], rendered(both, two)["query_bjcthw"])


def test_more_views_are_more_keys(clips):
    synthesis = SynthesisConfig(size=24, views=4)
    views = rendered(built(clips, synthesis, PLAIN), synthesis)
    assert len(views["more_keys"]) == 2
    two = dataclasses.replace(synthesis, views=2)
    fewer = rendered(built(clips, two, PLAIN), two)
    assert torch.equal(views["key_bjcthw"], fewer["key_bjcthw"])
    assert fewer["more_keys"] == ()
    for frames, region in views["more_keys"]:
        assert frames.shape == views["query_bjcthw"].shape
        assert not torch.equal(frames, views["key_bjcthw"])
        assert ((region[:, 1] >= 1) & (region.sum(dim=1) <= 8)).all()


@pytest.mark.parametrize("views", [0, 5])
def test_impossible_numbers_of_views_are_refused(views):
    with pytest.raises(ConfigError, match=r"synthesis\.views"):
        SynthesisConfig(views=views)
