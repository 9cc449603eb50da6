"""What a worker ships: unblended uint8 sources, and the small numbers that say what to do with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pal_ds.formats.recording import recording_number

#: Sources of a video come in this order, for all views each.
ROLES = ("region", "background")


class SourceRow(NamedTuple):
    """Where a source lies in a group's pixels, and how large it is.

    Attributes:
        offset: of its first byte.
        frames: number of frames.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        row_bytes: from one row of pixels to the next.
        frame_bytes: from one frame to the next.
    """

    offset: int
    frames: int
    height: int
    width: int
    row_bytes: int
    frame_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """One group of G videos, each cut into V regions and lent as V backgrounds. Nothing is blended yet.

    Source rows are ordered (role, video, view): row ``(role * G + video) * V + view``, with role 0 the region of
    the video's own synthetic views, role 1 the video as a background (rows VG..2VG are absent where nothing is
    pasted). The sources are ragged: each has its own crop size, unless the worker has resized it already. A video's
    backgrounds may overlap: they are crops of the same frames.

    Attributes:
        pixels: uint8, flat: what :meth:`frames` takes the sources from. A view of the worker's shared memory: valid
            until the next micro-batch is asked for.
        sources: int64 [S, 6] on the host, the rows :class:`SourceRow`.
        flip: bool [S] on the host.
        blur: float32 [S] on the host: standard deviation in output pixels, 0 for none.
        colour: float32 [S, 3, 3] on the host, the source's colour matrix.
        contrast: float32 [S] on the host, share of the source's mean grey that is added.
        region: int64 [G, V, 2] on the host: (start, length) in clips, per view.
        beta: float32 [G, V, J] on the host: share of the action per view and clip.
        pairs: int64 [G, V] on the host: the video whose background each view takes; -1 where nothing is pasted.
        labels: int64 [G] on the host: class numbers, -1 where unknown.
        boundaries: int64 [G] on the host: number of ``BOUNDARIES`` where the parts of each video meet; None where
            videos have no parts.
        digest: 8 bytes, BLAKE2b of the ordered keys and all draws.
        keys: keys of the clips, in order.
        epoch: number of the epoch.
        step: optimizer step since the start of the run.
        number: number of the group in its epoch.
        clip_sources: number of the shard set that each clip comes from; empty where that is not known.
        info: for people: per clip the strides used, source spans and frame counts.
    """

    pixels: Tensor
    sources: np.ndarray[Any, np.dtype[np.int64]]
    flip: np.ndarray[Any, np.dtype[np.bool_]]
    blur: np.ndarray[Any, np.dtype[np.float32]]
    colour: Tensor
    contrast: Tensor
    region: Tensor
    beta: Tensor
    pairs: Tensor
    labels: Tensor
    digest: bytes
    keys: list[str]
    epoch: int
    step: int
    number: int
    info: list[dict[str, Any]]
    clip_sources: list[int] = dataclasses.field(default_factory=list)
    boundaries: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def views(self) -> int:
        """V, the views of a video: the query (0) and the keys (from 1)."""
        return self.region.shape[1]

    def row(self, role: str, video: int, view: int) -> int:
        """Return the source row of a video in a role ("region" or "background") and view (0 query, 1.. keys)."""
        return (ROLES.index(role) * len(self) + video) * self.views + view

    def source(self, row: int) -> SourceRow:
        """Return where one source lies in ``pixels``."""
        return SourceRow(*self.sources[row].tolist())

    def frames(self, row: int) -> Tensor:
        """Return one source as it was shipped: uint8 [frames, height, width, 3], a view of ``pixels``."""
        source = self.source(row)
        shape, strides = (
            (source.frames, source.height, source.width, 3),
            (source.frame_bytes, source.row_bytes, 3, 1),
        )
        return self.pixels.as_strided(shape, strides, self.pixels.storage_offset() + source.offset)


def joined_pixels(groups: Sequence[Group]) -> Tensor:
    """Return the pixels of groups one after the other, uint8: no copy where they lie so already."""
    first = groups[0].pixels
    end = first.storage_offset()
    for group in groups:
        memory = group.pixels.untyped_storage()
        if memory.data_ptr() != first.untyped_storage().data_ptr() or group.pixels.storage_offset() != end:
            return torch.cat([group.pixels for group in groups])
        end += group.pixels.numel()
    return first.as_strided((end - first.storage_offset(),), (1,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The groups of one rank in one micro-step, in global order.

    On the host the pixels lie in memory shared with the workers: a micro-batch is valid until the next one is
    asked for. Use :meth:`to` (another device) or :meth:`clone` to keep it longer.

    Attributes:
        groups: the groups.
        epoch: number of the epoch.
        step: optimizer step since the start of the run.
        micro_step: number of the micro-step in the step.
        replaced: one row for every clip that stood in for another:
            {epoch, step, key, replacement, shard, error}, and source where there are several shard sets.
    """

    groups: tuple[Group, ...]
    epoch: int
    step: int
    micro_step: int
    replaced: list[dict[str, Any]]
    _copies: list[torch.cuda.Event] = dataclasses.field(default_factory=list, repr=False)
    _arrival: list[torch.cuda.Event] = dataclasses.field(default_factory=list, repr=False)

    @property
    def keys(self) -> list[list[str]]:
        """Keys of the clips, [groups][clips of the group]."""
        return [group.keys for group in self.groups]

    @property
    def digests(self) -> Tensor:
        """uint8 [groups, 8]: BLAKE2b of each group's ordered keys and draws, on the host."""
        return torch.tensor([list(group.digest) for group in self.groups], dtype=torch.uint8)

    @property
    def labels_b(self) -> Tensor:
        """int64 [B] on the host: class numbers, -1 where unknown."""
        return torch.cat([group.labels for group in self.groups])

    @property
    def boundaries_b(self) -> Tensor | None:
        """int64 [B] on the host: what changes where the parts of each video meet; None without parts."""
        found = [group.boundaries for group in self.groups if group.boundaries is not None]
        return torch.cat(found) if found else None

    @property
    def regions_bv2(self) -> Tensor:
        """int64 [B, V, 2] on the host: (start, length) in clips, per view."""
        return torch.cat([group.region for group in self.groups])

    @property
    def recordings_b(self) -> Tensor:
        """int64 [B] on the host: a number for the recording each clip was cut from; another in every shard set."""
        names = []
        for group in self.groups:
            sets = group.clip_sources or [0] * len(group)
            for info, number in zip(group.info, sets, strict=True):
                names.append(f"{number}/{info['source']}" if number else str(info["source"]))
        return torch.tensor([recording_number(name) for name in names], dtype=torch.int64)

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.groups[0].pixels.device

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MicroBatch:
        """Return the micro-batch with its pixels on ``device``, where those of all groups lie side by side."""
        device = torch.device(device)
        if self.device.type == device.type:
            return dataclasses.replace(self, _copies=[])
        memory = torch.empty(sum(self._sizes), dtype=torch.uint8, device=device)
        parts = torch.split(memory, self._sizes)
        for part, group in zip(parts, self.groups, strict=True):
            part.copy_(group.pixels, non_blocking=non_blocking)
        moved = dataclasses.replace(self, groups=self._with_pixels(parts), _copies=[], _arrival=[])
        if non_blocking and moved.device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._copies.append(event)
            moved._arrival.append(event)
        return moved

    def await_copies(self) -> None:
        """Have the device's current stream wait until the pixels have arrived; the host goes on."""
        for event in self._arrival:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(event)
            self.groups[0].pixels.record_stream(stream)
        self._arrival.clear()

    def wait_for_copies(self) -> None:
        """Wait until copies to a device that :meth:`to` began have ended (not for work that uses them)."""
        for event in self._copies:
            event.synchronize()
        self._copies.clear()

    def clone(self) -> MicroBatch:
        """Return a copy that owns its pixels."""
        parts = torch.split(torch.cat([group.pixels for group in self.groups]), self._sizes)
        return dataclasses.replace(self, groups=self._with_pixels(parts))

    @property
    def _sizes(self) -> list[int]:
        return [group.pixels.numel() for group in self.groups]

    def _with_pixels(self, parts: Sequence[Tensor]) -> tuple[Group, ...]:
        pairs = zip(self.groups, parts, strict=True)
        return tuple(dataclasses.replace(group, pixels=part) for group, part in pairs)
