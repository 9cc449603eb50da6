import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import SourceRow
from pal_ds.data.decode import decode_frames
from pal_ds.data.errors import ClipCorruptError, TooManyBadClipsError
from pal_ds.data.order.epoch_order import ClipPosition
from pal_ds.data.order.group_schedule import GroupTask, WindowPart
from pal_ds.data.rng import Draws
from pal_ds.data.synthesis.group_builder import GroupBuilder, colour_matrices
from pal_ds.data.synthesis.sampling import draw_clip, draw_look
from pal_ds.data.synthesis.slot_layout import SlotWriter, resized, slot_bytes
from pal_ds.formats.tar_samples import SampleMembers
from tests.support.tiny_shards import HEIGHT, WIDTH, encode, sample

SYNTHESIS = SynthesisConfig(size=24)
AUGMENT = AugmentConfig()


class AnyOther:
    """Stand-ins in the order of a list."""

    def __init__(self, positions=()):
        self.positions = list(positions)

    def stand_in(self, task, place, attempt):
        return self.positions[attempt] if attempt < len(self.positions) else None


@pytest.fixture(scope="module")
def clips():
    made = []
    for seed, frames in enumerate((150, 90, 70, 120, 50, 30)):
        record, video = sample(f"{seed}.mp4", encode(seed, frames), frames, label="b" if seed % 2 else None)
        made.append(SampleMembers(key=record.key, video=video, video_extension="mp4", record=record))
    return made


def task_of(count):
    positions = tuple(ClipPosition(0, number) for number in range(count))
    part = WindowPart((2, 0, 0), count, np.array(positions))
    return GroupTask(number=0, epoch=2, step=7, group=3, clips=positions, parts=(part,))


def built(clips, *, resize="device", synthesis=SYNTHESIS, schedule=None, fetch=None, hung=None):
    builder = GroupBuilder(
        schedule=schedule or AnyOther(),
        fetch=fetch,
        synthesis=synthesis,
        augment=AUGMENT,
        seed=9,
        resize=resize,
        labels={"a": 0, "b": 1},
        shard_label=lambda _: "train-000000.tar",
        hung=hung,
    )
    buffer = torch.zeros(slot_bytes(synthesis, len(clips), resize), dtype=torch.uint8)
    return builder.build(task_of(len(clips)), clips, buffer)


@pytest.mark.parametrize("resize", ["device", "worker"])
def test_sources_are_the_drawn_frames_of_the_drawn_crops(clips, resize):
    group = built(clips, resize=resize).group
    for video, clip in enumerate(clips):
        record = clip.record
        drawn = draw_clip(
            9,
            2,
            clip.key,
            frames=record.frames,
            height=HEIGHT,
            width=WIDTH,
            synthesis=SYNTHESIS,
            augment=AUGMENT,
        )
        for view in (0, 1):
            for role, frames, look in (
                ("region", drawn.regions[view].frames, drawn.region_looks[view]),
                ("background", drawn.background, drawn.background_looks[view]),
            ):
                top, left, height, width = look.crop
                expected = decode_frames(clip.video, record, frames.tolist())
                expected = expected[:, top : top + height, left : left + width]
                row = group.row(role, video, view)
                shipped = group.frames(row)
                assert torch.equal(resized(shipped, 24), resized(expected, 24))
                assert resize == "device" or shipped.shape[1:3] == (24, 24)
                assert bool(group.flip[row]) == look.flip
                assert group.blur[row] == np.float32(look.blur)
        assert group.region[video].tolist() == [[region.start, region.length] for region in drawn.regions]


def test_worker_and_device_resizing_give_the_same_pixels_and_digest(clips):
    here, there = built(clips, resize="worker").group, built(clips, resize="device").group
    assert here.digest == there.digest
    for row in range(len(here.sources)):
        assert torch.equal(here.frames(row), resized(there.frames(row), 24))


def test_backgrounds_that_overlap_much_are_shipped_once(clips):
    group = built(clips, synthesis=SynthesisConfig(size=40)).group
    rows = [[group.source(group.row("background", video, view)) for view in (0, 1)] for video in range(6)]
    apart = [row.row_bytes == row.width * 3 for pair in rows for row in pair]
    together = [pair[0].row_bytes == pair[1].row_bytes != pair[0].width * 3 for pair in rows]
    assert any(apart) and any(together)
    alone = sum(
        row.frames * row.height * row.width * 3 for row in map(group.source, range(len(group.sources)))
    )
    assert group.pixels.numel() < alone
    # A part of a box is followed by the rest of the row, and no byte lies beyond the slot's used part.
    for row in map(group.source, range(len(group.sources))):
        end = (
            row.offset + (row.frames - 1) * row.frame_bytes + (row.height - 1) * row.row_bytes + row.width * 3
        )
        assert 0 <= row.offset < end <= group.pixels.numel()


@settings(deadline=None, max_examples=60)
@given(
    looks=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 16), st.integers(1, 16)),
        min_size=2,
        max_size=4,
    ),
    size=st.integers(8, 16),
    resize=st.sampled_from(["device", "worker"]),
)
def test_any_backgrounds_are_their_crops_and_fit_the_slot(looks, size, resize):
    synthesis = SynthesisConfig(
        size=size, views=len(looks), clips=1, clip_frames=2, region_max=1, stride_max=1
    )
    drawn = draw_clip(0, 0, "k", frames=9, height=20, width=20, synthesis=synthesis, augment=AUGMENT)
    backgrounds = tuple(dataclasses.replace(drawn.background_looks[0], crop=crop) for crop in looks)
    drawn = dataclasses.replace(drawn, background_looks=backgrounds)
    frames = torch.randint(0, 256, (2 * (len(looks) + 1), 20, 20, 3), dtype=torch.uint8)
    buffer = torch.zeros(slot_bytes(synthesis, 1, resize), dtype=torch.uint8)
    writer = SlotWriter(buffer, synthesis, resize)
    writer.write(drawn, frames)
    for row, (top, left, height, width) in zip(writer.sources()[len(looks) :], looks, strict=True):
        place = SourceRow(*row.tolist())
        shape, strides = (2, place.height, place.width, 3), (place.frame_bytes, place.row_bytes, 3, 1)
        shipped = writer.pixels().as_strided(shape, strides, place.offset)
        expected = frames[-2:, top : top + height, left : left + width]
        assert torch.equal(resized(shipped, size), resized(expected, size))


def test_slots_hold_the_largest_possible_group(clips):
    longest = SynthesisConfig(size=24, region_min=8, region_max=8)
    group = built(clips, synthesis=longest).group
    assert group.pixels.numel() <= slot_bytes(longest, len(clips), "device")
    assert (group.sources[:12, 1] == 64).all()


def test_labels_become_numbers(clips):
    assert built(clips).group.labels.tolist() == [-1, 1, -1, 1, -1, 1]


def test_digest_changes_with_order_and_epoch(clips):
    digests = {built(list(order)).group.digest for order in itertools.permutations(clips[:3])}
    assert len(digests) == 6


def test_a_broken_clip_is_replaced_by_the_first_sound_stand_in(clips):
    record = clips[1].record
    truncated = dataclasses.replace(clips[1], video=clips[1].video[:900])
    corrupt = ClipCorruptError("0123", "bad bytes")
    elsewhere = {ClipPosition(0, 40): corrupt, ClipPosition(0, 41): clips[4], ClipPosition(0, 42): clips[5]}
    schedule = AnyOther([None, ClipPosition(0, 40), ClipPosition(0, 41), ClipPosition(0, 42)])
    made = built([clips[0], truncated, clips[2]], schedule=schedule, fetch=elsewhere.__getitem__)
    assert made.group.keys == [clips[0].key, clips[4].key, clips[2].key]
    (row,) = made.replaced
    assert (row["key"], row["replacement"], row["epoch"], row["step"]) == (record.key, clips[4].key, 2, 7)
    assert row["shard"] == "train-000000.tar"
    assert row["error"]
    assert made.group.digest == built([clips[0], clips[4], clips[2]]).group.digest
    assert torch.equal(made.group.pixels, built([clips[0], clips[4], clips[2]]).group.pixels)


def test_two_broken_clips_never_share_a_stand_in(clips):
    broken = ClipCorruptError("0123", "bad bytes")
    elsewhere = {ClipPosition(0, 40): clips[4], ClipPosition(0, 41): clips[5]}
    schedule = AnyOther([ClipPosition(0, 40), ClipPosition(0, 41)])
    made = built([broken, broken, clips[2]], schedule=schedule, fetch=elsewhere.__getitem__)
    assert made.group.keys == [clips[4].key, clips[5].key, clips[2].key]


def test_a_hung_clip_is_not_decoded_again(clips):
    schedule = AnyOther([ClipPosition(0, 40)])
    made = built(clips[:3], schedule=schedule, fetch=lambda _: clips[5], hung={clips[0].key: "decoder hangs"})
    assert made.group.keys[0] == clips[5].key
    assert made.replaced[0]["error"] == "decoder hangs"


def test_no_stand_in_at_all_stops_with_the_shard(clips):
    with pytest.raises(TooManyBadClipsError, match=r"train-000000\.tar: .*bad bytes.*pal-shard verify"):
        built([ClipCorruptError("0123", "bad bytes"), *clips[:3]])


def test_colour_matrices_keep_greys_grey():
    for seed in range(50):
        look = draw_look(Draws(seed, 0, "a", "b"), 64, 64, AUGMENT)
        grey = colour_matrices([look])[0] @ np.ones(3)
        assert np.ptp(grey) < 1e-3
        assert grey[0] == pytest.approx(look.brightness * look.contrast, rel=1e-3)


def test_colour_matrix_follows_the_documented_order():
    look = dataclasses.replace(
        draw_look(Draws(0, 0, "a", "b"), 64, 64, AugmentConfig(jitter_p=0, grey_p=0)),
        brightness=1.2,
        contrast=0.8,
        saturation=0.5,
    )
    colour = np.array([0.9, 0.2, 0.1])
    expected = colour * 1.2 * 0.8
    expected = 0.5 * expected + 0.5 * (expected @ [0.299, 0.587, 0.114])
    assert colour_matrices([look])[0] @ colour == pytest.approx(expected)
    turned = dataclasses.replace(look, hue=1.0)
    assert colour_matrices([turned])[0] == pytest.approx(colour_matrices([look])[0]), (
        "a full turn changes nothing"
    )
    third = dataclasses.replace(look, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.25)
    assert not np.allclose(colour_matrices([third])[0], np.eye(3), atol=0.2)
    grey = dataclasses.replace(look, grey=True)
    assert np.ptp(colour_matrices([grey])[0] @ colour) == pytest.approx(0, abs=1e-12)
