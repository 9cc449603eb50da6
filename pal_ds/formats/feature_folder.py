"""A folder of extracted features: ``v_<id>.npy`` with its sidecar, listed, read and checked, by URL."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.formats.feature_sidecar import Sidecar, SidecarError, array_name, sidecar_name

FloatArray = NDArray[np.float32]


class FeatureError(ValueError):
    """A folder without features, or a file that doesn't fit its sidecar or the others; one line."""


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
    """The finished videos of a destination of ``pal-extract``.

    Args:
        url: the folder.

    Attributes:
        ids: sorted video ids that have both array and sidecar.

    Raises:
        FeatureError: there are none.
        StorageError: the folder can't be listed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        names = set(storage.list_names(url, retry=storage.AT_START))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        self.ids = sorted(
            stem.removeprefix("v_") for stem in stems if stem.startswith("v_") and f"{stem}.npy" in names
        )
        self._known = frozenset(self.ids)
        if not self.ids:
            raise FeatureError(
                f"{storage.redact(url)}: holds no v_<id>.npy with a v_<id>.json; give the folder that "
                "pal-extract wrote"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def sidecar(self, video: str) -> Sidecar:
        """Read one video's sidecar.

        Raises:
            FeatureError: it can't be understood.
            StorageError: it can't be read.
        """
        url = storage.join(self.url, sidecar_name(video))
        try:
            return Sidecar.from_json(storage.read_bytes(url))
        except SidecarError as error:
            raise FeatureError(f"{storage.redact(url)}: {error}") from None

    def array(self, video: str) -> FloatArray:
        """Read one video's features, float32 [T, C].

        Raises:
            FeatureError: not a two-dimensional array of numbers.
            StorageError: it can't be read.
        """
        url = storage.join(self.url, array_name(video))
        return load_array(storage.read_bytes(url), storage.redact(url))

    def read(self, video: str) -> tuple[Sidecar, FloatArray]:
        """Read sidecar and array of one video.

        Raises:
            FeatureError: the array's shape is not what its sidecar says.
            StorageError: they can't be read.
        """
        sidecar, array = self.sidecar(video), self.array(video)
        if array.shape != (sidecar.features, sidecar.feature_dim) or len(array) == 0:
            place = storage.redact(storage.join(self.url, array_name(video)))
            wanted = f"[{sidecar.features}, {sidecar.feature_dim}]"
            raise FeatureError(
                f"{place}: shape {list(array.shape)}, its sidecar says {wanted}; delete both and extract again"
            )
        return sidecar, array

    def items(self) -> Iterator[tuple[Sidecar, FloatArray]]:
        """Yield sidecar and array of every video in order of id (see :meth:`read`)."""
        for video in self.ids:
            yield self.read(video)

    def load(self, video: str) -> VideoFeatures:
        """Read one video for a head.

        Raises:
            FeatureError: the array doesn't fit its sidecar or isn't finite.
            StorageError: it can't be read.
        """
        sidecar, values = self.read(video)
        if not np.isfinite(values).all():
            place = storage.redact(storage.join(self.url, array_name(video)))
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
        found = [video for video in wanted if video in self._known]
        absent = len(wanted) - len(found)
        if not found or absent > missing * len(wanted):
            example = next(video for video in [*wanted, "?"] if video not in self._known)
            problem = (
                f"{absent} of {len(wanted)} {name} videos have no features in {storage.redact(self.url)}, such as "
                f"{example!r}; extract them, or raise data.missing"
            )
            raise ConfigError("data.features", storage.redact(self.url), problem)
        return found


def load_array(data: bytes, where: str) -> FloatArray:
    """Parse the bytes of a ``.npy`` file into float32 [T, C]; pickled objects are refused.

    Raises:
        FeatureError: not a two-dimensional array of numbers.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FeatureError(f"{where}: not a plain .npy array: {error}") from error
    array = np.squeeze(array) if array.ndim > 2 else array
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise FeatureError(f"{where}: expected [T, C] numbers, found {array.dtype} {array.shape}")
    return np.asarray(array, dtype=np.float32)


def rescale(features: VideoFeatures, snippets: int) -> FloatArray:
    """Interpolate linearly to the centres of ``snippets`` equal parts of the video, float32 [snippets, C].

    By time, not by index: whatever the stride and clip length, snippet k stands for the same part of the video.
    Before the first and after the last centre the nearest feature is held.
    """
    wanted = (np.arange(snippets) + 0.5) / snippets * features.duration
    return at_times(features.values_tc, features.centres_t, wanted)


def at_times(
    values_tc: FloatArray, centres_t: NDArray[np.float64], wanted_n: NDArray[np.float64]
) -> FloatArray:
    """Interpolate linearly at given seconds; beyond the first and last centre the nearest feature is held.

    Args:
        values_tc: features [T, C].
        centres_t: their seconds, rising [T].
        wanted_n: seconds [N].

    Returns:
        float32 [N, C].
    """
    if len(centres_t) == 1:
        return np.repeat(values_tc, len(wanted_n), axis=0)
    right = np.clip(np.searchsorted(centres_t, wanted_n), 1, len(centres_t) - 1)
    share = np.clip((wanted_n - centres_t[right - 1]) / (centres_t[right] - centres_t[right - 1]), 0.0, 1.0)
    share_n1 = share.astype(np.float32)[:, None]
    return values_tc[right - 1] * (1 - share_n1) + values_tc[right] * share_n1
