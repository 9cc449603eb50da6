"""Videos of two parts: which frames they have, whose they are, and what the boundary is called."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.base import ConfigError
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group, MicroBatch
from pal_ds.data.decode import decode_frames
from pal_ds.data.order.epoch_order import ClipPosition
from pal_ds.data.order.group_schedule import GroupTask, WindowPart
from pal_ds.data.synthesis.batch_render import render_together
from pal_ds.data.synthesis.boundaries import (
    DIFFERENT_CLASS,
    DIFFERENT_SPEED,
    SAME_CLASS,
    SAME_SPEED,
    draw_partners,
    draw_parts,
)
from pal_ds.data.synthesis.group_builder import GroupBuilder
from pal_ds.data.synthesis.render import render, render_one_by_one
from pal_ds.data.synthesis.slot_layout import slot_bytes
from pal_ds.formats.tar_samples import SampleMembers
from tests.support.tiny_shards import HEIGHT, WIDTH, encode, sample

BOUNDARY: dict[str, Any] = {"views": 1, "paste": "boundary", "beta_min": 1.0, "region_min": 2}
SYNTHESIS = SynthesisConfig(**BOUNDARY, size=HEIGHT, clips=8, clip_frames=2, region_max=6, stride_max=3)
#: Nothing is cropped, mirrored or coloured, so that frames can be told apart.
PLAIN = AugmentConfig(crop="center", flip_p=0, jitter_p=0, grey_p=0, blur_p=0)


def parts_of(key: str, *, frames: int = 300, synthesis: SynthesisConfig = SYNTHESIS) -> Any:
    return draw_parts(
        1, 0, key, frames=frames, height=HEIGHT, width=WIDTH, synthesis=synthesis, augment=AugmentConfig()
    )


@settings(max_examples=150, deadline=None)
@given(key=st.text("abc", min_size=1, max_size=6), frames=st.integers(8, 300))
def test_parts_are_runs_that_meet_where_their_boundary_says(key: str, frames: int) -> None:
    drawn = parts_of(key, frames=frames)
    (region,) = drawn.regions
    steps = np.diff(region.frames) % frames
    assert region.start == 0
    assert len(drawn.background) == 16
    assert set(np.diff(drawn.background) % frames) == {region.stride}
    assert set(region.beta) == {1.0}
    if drawn.boundary in (DIFFERENT_CLASS, SAME_CLASS):
        assert 2 <= region.length <= 6
        assert len(region.frames) == 2 * region.length
        assert set(steps) == {region.stride}
        return
    assert (region.length, len(region.frames)) == (8, 16)
    if drawn.boundary == SAME_SPEED:
        assert set(steps) == {region.stride}
        return
    # One change of stride, at the end of a clip that may be the first part's last.
    changes = np.flatnonzero(np.diff(steps))
    assert len(changes) == 1
    assert (int(changes[0]) + 1) in {2 * length for length in range(2, 7)}
    assert steps[0] == region.stride != steps[-1]
    assert all(1 <= step <= 3 for step in steps)


def test_boundaries_are_wanted_equally_often() -> None:
    counts = collections.Counter(parts_of(f"clip {number}").boundary for number in range(2000))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) < 2000 * 0.25 * 0.25


def test_a_video_too_short_for_two_speeds_goes_on_at_its_own() -> None:
    assert DIFFERENT_SPEED not in {parts_of(f"clip {number}", frames=20).boundary for number in range(200)}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.integers(3, 9))
def test_partners_make_the_boundary_that_is_named(data: st.DataObject, size: int) -> None:
    labels = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    wanted = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    pairs, found = draw_partners(0, 0, [str(number) for number in range(size)], labels, wanted)
    for video in range(size):
        partner = int(pairs[video, 0])
        if wanted[video] in (DIFFERENT_SPEED, SAME_SPEED):
            assert (partner, found[video]) == (video, wanted[video])
            continue
        assert partner != video
        assert found[video] == (SAME_CLASS if labels[partner] == labels[video] else DIFFERENT_CLASS)
        others = [label for number, label in enumerate(labels) if number != video]
        possible = {SAME_CLASS} if labels[video] in others else set()
        possible |= {DIFFERENT_CLASS} if set(others) - {labels[video]} else set()
        if wanted[video] in possible:
            assert found[video] == wanted[video]


@pytest.fixture(scope="module")
def clips() -> list[SampleMembers]:
    made = []
    for seed in range(8):
        record, video = sample(f"{seed}.mp4", encode(seed, 120), 120, label="ab"[seed % 2])
        made.append(SampleMembers(key=record.key, video=video, video_extension="mp4", record=record))
    return made


def built(clips: list[SampleMembers], synthesis: SynthesisConfig, *, seed: int = 4) -> Group:
    builder = GroupBuilder(
        schedule=None,
        fetch=None,
        synthesis=synthesis,
        augment=PLAIN,
        seed=seed,
        resize="worker",
        labels={"a": 0, "b": 1},
        shard_label=lambda _: "train-000000.tar",
    )
    positions = tuple(ClipPosition(0, number) for number in range(len(clips)))
    part = WindowPart((0, 0, 0), len(clips), np.array(positions))
    task = GroupTask(number=0, epoch=0, step=0, group=0, clips=positions, parts=(part,))
    buffer = torch.zeros(slot_bytes(synthesis, len(clips), "worker"), dtype=torch.uint8)
    return builder.build(task, clips, buffer).group


def test_a_group_renders_the_parts_it_names(clips: list[SampleMembers]) -> None:
    """Every frame of every video is that of the source, by plain decoding: two videos where it says so, else one."""
    seen = set()
    for seed in range(4):
        group = built(clips, SYNTHESIS, seed=seed)
        views = render(
            MicroBatch(groups=(group,), epoch=0, step=0, micro_step=0, replaced=[]), SYNTHESIS, PLAIN
        )
        assert torch.equal(views["boundaries_b"], group.boundaries)
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (PLAIN.mean, PLAIN.std))
        for video, clip in enumerate(clips):
            drawn = draw_parts(
                seed, 0, clip.key, frames=120, height=HEIGHT, width=WIDTH, synthesis=SYNTHESIS, augment=PLAIN
            )
            kind, partner = int(group.boundaries[video]), int(group.pairs[video, 0])
            seen.add(kind)
            plan = [(clip, int(frame)) for frame in drawn.regions[0].frames]
            if kind in (DIFFERENT_CLASS, SAME_CLASS):
                other = clips[partner]
                assert (other.record.label == clip.record.label) == (kind == SAME_CLASS)
                lent = draw_parts(
                    seed,
                    0,
                    other.key,
                    frames=120,
                    height=HEIGHT,
                    width=WIDTH,
                    synthesis=SYNTHESIS,
                    augment=PLAIN,
                ).background
                plan += [(other, int(frame)) for frame in lent[len(plan) :]]
            run = views["query_bjcthw"][video].transpose(0, 1).flatten(1, 2)
            assert len(plan) == run.shape[1] == 16
            left = (WIDTH - HEIGHT) // 2
            for place, (source, frame) in enumerate(plan):
                (picture,) = decode_frames(source.video, source.record, [frame])
                expected = picture[:, left : left + HEIGHT].permute(2, 0, 1).float() / 255
                torch.testing.assert_close(run[:, place] * std + mean, expected, rtol=0, atol=1e-4)
    assert seen == {0, 1, 2, 3}


def test_both_renderers_agree(clips: list[SampleMembers]) -> None:
    group = built(clips, SYNTHESIS)
    one = render_one_by_one((group,), SYNTHESIS, PLAIN, torch.float32)
    together = render_together((group,), SYNTHESIS, PLAIN, torch.float32)
    torch.testing.assert_close(one, together, rtol=0, atol=0.02)


def test_the_digest_tells_boundaries_apart(clips: list[SampleMembers]) -> None:
    group = built(clips, SYNTHESIS)
    relabelled = [
        dataclasses.replace(clip, record=dataclasses.replace(clip.record, label="ab"[number // 4]))
        for number, clip in enumerate(clips)
    ]
    assert built(clips, SYNTHESIS).digest == group.digest
    assert built(relabelled, SYNTHESIS).digest != group.digest
    assert built(clips, dataclasses.replace(SYNTHESIS, paste="none", region_min=6)).boundaries is None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"views": 2}, "views"),
        ({"region_max": 8}, "region_max"),
        ({"stride_mode": "clip"}, "stride_mode"),
        ({"stride_max": 1}, "stride_max"),
        ({"beta_min": 0.6}, "beta_min"),
        ({"background_stride": 2}, "background_stride"),
        ({"background_sampling": "random"}, "background_sampling"),
        ({"beta_scope": "clip"}, "beta_scope"),
    ],
)
def test_what_leaves_no_boundary_or_has_no_effect_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SynthesisConfig(**{**BOUNDARY, **options})
    assert caught.value.field == f"synthesis.{field}"
