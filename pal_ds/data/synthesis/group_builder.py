"""Building a group in a worker: fetch, decode once, cut every role's frames out, write them side by side.

Blending, colour, blur and normalisation are the device's work (augment.py). By default resizing is too: cropping
costs a copy, but resizing 184 frames a sample costs a quarter of what decoding them costs.
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.batch import Group
from pal_ds.data.clip_stream import Clip
from pal_ds.data.decode import decode_frames
from pal_ds.data.errors import ClipError, TooManyBadClipsError
from pal_ds.data.order.epoch_order import ClipPosition
from pal_ds.data.order.group_schedule import MAX_ATTEMPTS, GroupTask, Schedule
from pal_ds.data.synthesis.boundaries import draw_partners, draw_parts
from pal_ds.data.synthesis.sampling import ClipDraws, Look, draw_clip, draw_pairs
from pal_ds.data.synthesis.slot_layout import SlotWriter
from pal_ds.formats.shardset import SampleRecord
from pal_ds.formats.tar_samples import SampleMembers

_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)
_GREY = np.tile(_YIQ[0], (3, 1))
# A hue shift turns I and Q; along Y, the greys, nothing moves.
_ALONG_GREY = _RGB @ np.diag([1.0, 0.0, 0.0]) @ _YIQ
_ACROSS_GREY = _RGB @ np.diag([0.0, 1.0, 1.0]) @ _YIQ
_QUARTER_TURN = _RGB @ np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) @ _YIQ


class Built(NamedTuple):
    """A group and what it cost.

    Attributes:
        group: the group.
        replaced: rows for the clips that had to be replaced.
        decode_seconds: time spent in the decoder.
    """

    group: Group
    replaced: list[dict[str, Any]]
    decode_seconds: float


class _Decoded(NamedTuple):
    record: SampleRecord
    draws: ClipDraws
    frames: Tensor


class GroupBuilder:
    """Builds groups into memory given from outside.

    Args:
        schedule: says which clip stands in for a broken one.
        fetch: reads one clip now.
        synthesis: how synthetic videos are made.
        augment: how they are augmented.
        seed: the run's seed.
        resize: "device" or "worker": where crops become ``synthesis.size`` pixels.
        labels: class numbers by name.
        shard_label: gives the name of a shard, for messages.
        hung: reasons by name for clips that must not be decoded (again); a name is ``<source>/<key>``, or the key
            alone for source 0.
        watch: called with a name before and with None after every decode.
        decode: gives frames of an encoded clip: :func:`decode_frames`, on a device or through a cache.
        sources: shard sets that clips come from.
    """

    def __init__(
        self,
        *,
        schedule: Schedule,
        fetch: Callable[[ClipPosition], Clip],
        synthesis: SynthesisConfig,
        augment: AugmentConfig,
        seed: int,
        resize: str,
        labels: Mapping[str, int],
        shard_label: Callable[[int], str],
        hung: Mapping[str, str] | None = None,
        watch: Callable[[str | None], None] = lambda _key: None,
        decode: Callable[[bytes, SampleRecord, Sequence[int]], Tensor] = decode_frames,
        sources: int = 1,
    ) -> None:
        self._schedule = schedule
        self._fetch = fetch
        self._synthesis = synthesis
        self._augment = augment
        self._seed = seed
        self._resize = resize
        self._labels = labels
        self._shard_label = shard_label
        self._hung = hung or {}
        self._watch = watch
        self._decode = decode
        self._sources = sources
        self._decode_seconds = 0.0

    def stage(
        self, groups: Iterable[tuple[GroupTask, list[Clip]]], slot: Callable[[], Tensor]
    ) -> Iterator[Built]:
        """Build every group into the memory that ``slot`` gives."""
        for task, clips in groups:
            yield self.build(task, clips, slot())

    def build(self, task: GroupTask, clips: list[Clip], buffer: Tensor) -> Built:
        """Build one group.

        Args:
            task: which group.
            clips: its clips, or what is wrong with them.
            buffer: uint8, flat, at least :func:`slot_bytes`.

        Raises:
            TooManyBadClipsError: no stand-in could be found for a broken clip.
            StorageError: a stand-in can't be read.
        """
        used = set(task.clips)
        replaced: list[dict[str, Any]] = []
        prefixes = task.draw_prefixes()
        writer = SlotWriter(buffer, self._synthesis, self._resize)
        members: list[tuple[SampleRecord, ClipDraws]] = []
        # All draws first: between decodes, which sweep the caches, each would take three times as long.
        draws = [
            None if isinstance(clip, ClipError) else self._drawn(task.epoch, clip, prefix)
            for clip, prefix in zip(clips, prefixes, strict=True)
        ]
        for place, clip in enumerate(clips):
            decoded = self._decoded_or_stand_in(task, place, clip, draws[place], used, replaced)
            writer.write(decoded.draws, decoded.frames)
            members.append((decoded.record, decoded.draws))
            # Its frames must be gone before the next decode, which then writes where the caches are warm.
            del decoded
        decode_seconds, self._decode_seconds = self._decode_seconds, 0.0
        return Built(self._described(task, members, writer), replaced, decode_seconds)

    def _decoded_or_stand_in(
        self,
        task: GroupTask,
        place: int,
        clip: Clip,
        draws: ClipDraws | None,
        used: set[ClipPosition],
        replaced: list[dict[str, Any]],
    ) -> _Decoded:
        original: ClipError | None = None
        for attempt in range(MAX_ATTEMPTS + 1):
            try:
                decoded = self._decoded(task, place, clip, draws)
            except ClipError as error:
                original = original or error
            else:
                if original is not None:
                    replaced.append(self._replacement(task, place, original, decoded.record.key))
                return decoded
            position = self._schedule.stand_in(task, place, attempt)
            clip, draws = original, None
            if position is not None and position not in used:
                used.add(position)
                clip = self._fetch(position)
        shard = self._shard_label(task.clips[place].shard)
        raise TooManyBadClipsError(
            f"{shard}: no stand-in found for {original}: run pal-shard verify on the set"
        )

    def _replacement(self, task: GroupTask, place: int, error: ClipError, stand_in: str) -> dict[str, Any]:
        row = {
            "epoch": task.epoch,
            "step": task.step,
            "key": error.key,
            "replacement": stand_in,
            "shard": self._shard_label(task.clips[place].shard),
            "error": error.reason,
        }
        return row | ({"source": task.sources()[place]} if self._sources > 1 else {})

    def _drawn(self, epoch: int, clip: SampleMembers, prefix: str) -> ClipDraws:
        record, key = clip.record, prefix + clip.key
        what: dict[str, Any] = {
            "frames": record.frames,
            "height": record.height,
            "width": record.width,
            "synthesis": self._synthesis,
            "augment": self._augment,
        }
        if self._synthesis.paste == "boundary":
            return draw_parts(self._seed, epoch, key, **what)
        return draw_clip(self._seed, epoch, key, **what, fps=record.fps)

    def _decoded(self, task: GroupTask, place: int, clip: Clip, draws: ClipDraws | None) -> _Decoded:
        if isinstance(clip, ClipError):
            raise clip
        record = clip.record
        source = task.sources()[place]
        name = f"{source}/{clip.key}" if source else clip.key
        if name in self._hung:
            raise ClipError(clip.key, self._hung[name])
        draws = draws or self._drawn(task.epoch, clip, task.draw_prefixes()[place])
        wanted = np.concatenate([*(region.frames for region in draws.regions), draws.background])
        self._watch(name)
        begun = time.perf_counter()
        try:
            return _Decoded(record, draws, self._decode(clip.video, record, wanted.tolist()))
        finally:
            self._decode_seconds += time.perf_counter() - begun
            self._watch(None)

    def _described(
        self, task: GroupTask, members: list[tuple[SampleRecord, ClipDraws]], writer: SlotWriter
    ) -> Group:
        keys = [record.key for record, _ in members]
        names = [prefix + key for prefix, key in zip(task.draw_prefixes(), keys, strict=True)]
        draws = [drawn for _, drawn in members]
        labels = [-1 if record.label is None else self._labels.get(record.label, -1) for record, _ in members]
        boundaries = None
        if self._synthesis.paste == "boundary":
            wanted = [drawn.boundary for drawn in draws]
            pairs, boundaries = draw_partners(self._seed, task.epoch, names, labels, wanted)
        else:
            pairs = draw_pairs(self._seed, task.epoch, names, self._synthesis.paste, self._synthesis.views)
        looks = [look for drawn in draws for look in drawn.region_looks]
        if self._synthesis.paste != "none":
            looks += [look for drawn in draws for look in drawn.background_looks]
        return Group(
            pixels=writer.pixels(),
            sources=writer.sources(),
            flip=np.array([look.flip for look in looks]),
            blur=np.array([look.blur for look in looks], dtype=np.float32),
            colour=torch.from_numpy(colour_matrices(looks).astype(np.float32)),
            contrast=torch.tensor([(1 - look.contrast) * look.brightness for look in looks]),
            region=torch.tensor([[(part.start, part.length) for part in drawn.regions] for drawn in draws]),
            beta=torch.tensor([[part.beta for part in drawn.regions] for drawn in draws]),
            pairs=torch.from_numpy(pairs),
            labels=torch.tensor(labels),
            boundaries=None if boundaries is None else torch.from_numpy(boundaries),
            digest=group_digest(names, draws, pairs, boundaries),
            keys=keys,
            epoch=task.epoch,
            step=task.step,
            number=task.group,
            clip_sources=task.sources(),
            info=[_info(record, drawn) for record, drawn in members],
        )


def colour_matrices(looks: Sequence[Look]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each source's colour operations as one 3 x 3 matrix on RGB columns, [S, 3, 3].

    In this order: brightness, contrast, saturation, hue, greyscale. Contrast also adds
    ``(1 - contrast) * brightness * mean grey`` to every channel, which the later operations leave alone
    because they keep greys.
    """
    gain, saturation, turn = np.array(
        [(look.brightness * look.contrast, look.saturation, 2 * math.pi * look.hue) for look in looks]
    ).T[..., None, None]
    matrices = gain * (saturation * np.eye(3) + (1 - saturation) * _GREY)
    rotations = np.cos(turn) * _ACROSS_GREY + np.sin(turn) * _QUARTER_TURN + _ALONG_GREY
    hued = np.array([bool(look.hue) for look in looks])[:, None, None]
    matrices = np.where(hued, rotations @ matrices, matrices)
    grey = np.array([look.grey for look in looks])[:, None, None]
    found: np.ndarray[Any, np.dtype[np.float64]] = np.where(grey, _GREY @ matrices, matrices)
    return found


def group_digest(
    keys: list[str],
    draws: list[ClipDraws],
    pairs: np.ndarray[Any, np.dtype[np.int64]],
    boundaries: np.ndarray[Any, np.dtype[np.int64]] | None = None,
) -> bytes:
    """Return the BLAKE2b-8 of a group's ordered keys and everything drawn for it."""
    digest = hashlib.blake2b(digest_size=8)
    for key, drawn in zip(keys, draws, strict=True):
        digest.update(f"{key}\n".encode())
        for region in drawn.regions:
            digest.update(struct.pack("<3q", region.start, region.length, region.stride))
            digest.update(region.frames.astype("<i8", copy=False).tobytes())
            digest.update(struct.pack(f"<{len(region.beta)}d", *region.beta))
        digest.update(drawn.background.astype("<i8", copy=False).tobytes())
        for look in (*drawn.region_looks, *drawn.background_looks):
            digest.update(struct.pack("<6q", *look.crop, look.flip, look.grey))
            factors = (look.brightness, look.contrast, look.saturation, look.hue, look.blur)
            digest.update(struct.pack("<5d", *factors))
    digest.update(pairs.astype("<i8", copy=False).tobytes())
    if boundaries is not None:
        digest.update(boundaries.astype("<i8", copy=False).tobytes())
    return digest.digest()


def _info(record: SampleRecord, draws: ClipDraws) -> dict[str, Any]:
    """Return what a film strip writes beside a video."""
    return {
        "key": record.key,
        "source": record.source,
        "frames": record.frames,
        "fps": record.fps,
        "stride": [region.stride for region in draws.regions],
        "span": [(int(region.frames[0]), int(region.frames[-1])) for region in draws.regions],
        "background_stride": draws.background_stride,
    }
