"""Features of videos as extracted: ``v_<id>.npy`` with its sidecar, read by id from a folder URL."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.transfer.sidecar import Sidecar, SidecarError, array_name, sidecar_name

FloatArray = NDArray[np.float32]


class FeatureError(ValueError):
    """A feature file that doesn't fit its sidecar or the others; one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """One video's features and their time axis.

    Attributes:
        video: its id.
        values_tc: features at their native rate [T, C].
        centres_t: centre of each in seconds [T].
        duration: of the video, seconds.
        step: seconds between two features.
    """

    video: str
    values_tc: FloatArray
    centres_t: NDArray[np.float64]
    duration: float
    step: float


class FeatureStore:
    """Features in one folder.

    Args:
        url: the folder.

    Raises:
        ConfigError: it holds no feature file.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        names = set(storage.list_names(url))
        self.videos = {name[2:-4] for name in names if name.startswith("v_") and name.endswith(".npy")} & {
            name[2:-5] for name in names if name.startswith("v_") and name.endswith(".json")
        }
        if not self.videos:
            problem = "holds no v_<id>.npy with a v_<id>.json; give the folder that launch/extract.py wrote"
            raise ConfigError("data.features", storage.redact(url), problem)

    def load(self, video: str) -> VideoFeatures:
        """Read one video.

        Raises:
            FeatureError: the array isn't [T, C] of finite numbers or doesn't fit its sidecar.
            StorageError: it can't be read.
        """
        place = storage.join(storage.redact(self.url), array_name(video))
        try:
            sidecar = Sidecar.from_json(storage.read_bytes(storage.join(self.url, sidecar_name(video))))
            data = io.BytesIO(storage.read_bytes(storage.join(self.url, array_name(video))))
            values = np.load(data, allow_pickle=False).astype(np.float32, copy=False)
        except (SidecarError, ValueError, EOFError) as error:
            raise FeatureError(f"{place}: {error}") from None
        if values.ndim != 2 or len(values) == 0 or values.shape != (sidecar.features, sidecar.feature_dim):
            wanted = f"[{sidecar.features}, {sidecar.feature_dim}]"
            raise FeatureError(f"{place}: shape {list(values.shape)}, its sidecar says {wanted}")
        if not np.isfinite(values).all():
            raise FeatureError(f"{place}: holds values that aren't finite")
        return VideoFeatures(
            video=video,
            values_tc=values,
            centres_t=sidecar.centres(),
            duration=sidecar.duration,
            step=sidecar.stride / sidecar.fps,
        )

    def present(self, videos: Iterable[str], *, missing: float, name: str) -> list[str]:
        """Keep the videos that have features.

        Args:
            videos: wanted ids.
            missing: share that may be absent.
            name: what to call them in the error.

        Raises:
            ConfigError: more are absent than allowed, or all.
        """
        wanted = list(videos)
        found = [video for video in wanted if video in self.videos]
        absent = len(wanted) - len(found)
        if not found or absent > missing * len(wanted):
            example = next(video for video in [*wanted, "?"] if video not in self.videos)
            problem = (
                f"{absent} of {len(wanted)} {name} videos have no features in {storage.redact(self.url)}, such as "
                f"{example!r}; extract them, or raise data.missing"
            )
            raise ConfigError("data.features", storage.redact(self.url), problem)
        return found


def rescale(features: VideoFeatures, snippets: int) -> FloatArray:
    """Interpolate linearly to the centres of ``snippets`` equal parts of the video [snippets, C].

    By time, not by index: whatever the stride and clip length, snippet k stands for the same part of the video.
    Before the first and after the last centre the nearest feature is held.
    """
    wanted = (np.arange(snippets) + 0.5) / snippets * features.duration
    centres = features.centres_t
    if len(centres) == 1:
        return np.repeat(features.values_tc, snippets, axis=0)
    right = np.clip(np.searchsorted(centres, wanted), 1, len(centres) - 1)
    share = np.clip((wanted - centres[right - 1]) / (centres[right] - centres[right - 1]), 0.0, 1.0)
    share_t1 = share.astype(np.float32)[:, None]
    return features.values_tc[right - 1] * (1 - share_t1) + features.values_tc[right] * share_t1
