"""Feature folders of the references, on the same time axis as a network's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pal_ds.formats.feature_sidecar import Sidecar, array_name, sidecar_name

CLIP_FRAMES = 8
GROUPS = 4
"""Of the heads' first convolution."""
Rows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Which frames each feature of a video covers.

    Attributes:
        video: its id. frames: how many it has. fps: their rate. stride: frames between features.
    """

    video: str
    frames: int
    fps: float
    stride: int

    @property
    def starts(self) -> NDArray[np.int64]:
        """First frame of every clip [T]; a last clip may be shorter."""
        return np.arange(0, max(1, self.frames - CLIP_FRAMES + 1), self.stride)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of every clip in seconds [T]."""
        return np.asarray((self.starts + CLIP_FRAMES / 2) / self.fps)

    def spans(self) -> Iterator[slice]:
        """Give the frames of every clip."""
        return (slice(int(start), min(int(start) + CLIP_FRAMES, self.frames)) for start in self.starts)


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Standardises columns by the training videos, and fills them up with zeros to a number that heads take.

    Without it a head would need as many epochs as a column's unit is small before it looks at it.
    """

    mean_c: Rows
    scale_c: Rows

    @classmethod
    def of(cls, values_nc: Rows) -> Standard:
        """Take mean and standard deviation of rows; a constant column keeps its scale."""
        scale_c = values_nc.std(axis=0)
        return cls(mean_c=values_nc.mean(axis=0), scale_c=np.where(scale_c > 1e-6, scale_c, 1.0))

    def __call__(self, values_tc: Rows) -> Rows:
        """Return rows with a number of columns that :data:`GROUPS` divides."""
        standard_tc = (values_tc - self.mean_c) / self.scale_c
        return np.pad(standard_tc, ((0, 0), (0, -values_tc.shape[1] % GROUPS))).astype(np.float32)


def write(folder: Path, clips: Clips, values_tc: Rows, name: str) -> None:
    """Write one video's features as :class:`pal_ds.formats.feature_folder.FeatureStore` reads them."""
    sidecar = Sidecar(
        id=clips.video,
        source=name,
        fps=clips.fps,
        clip_frames=CLIP_FRAMES,
        stride=clips.stride,
        offset=0,
        duration=clips.frames / clips.fps,
        frames=clips.frames,
        padded=0,
        features=len(values_tc),
        feature_dim=values_tc.shape[1],
        sampling="native",
        crop="centre",
        size=0,
        checkpoint=name,
    )
    np.save(folder / array_name(clips.video), values_tc.astype(np.float32))
    (folder / sidecar_name(clips.video)).write_bytes(sidecar.to_json())
