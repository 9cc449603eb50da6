"""A folder of extracted features, read: sidecars listed, arrays loaded one at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.transfer.sidecar import Sidecar, SidecarError, array_name, sidecar_name


class FeatureSetError(ValueError):
    """A folder without features, or with a file that contradicts its sidecar."""


class FeatureSet:
    """The finished videos of a destination of ``launch/extract.py``.

    Args:
        url: the folder.

    Attributes:
        ids: sorted video ids that have both array and sidecar.

    Raises:
        FeatureSetError: there are none.
        StorageError: the folder can't be listed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        names = set(storage.list_names(url, retry=storage.AT_START))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        self.ids = sorted(
            stem.removeprefix("v_") for stem in stems if stem.startswith("v_") and f"{stem}.npy" in names
        )
        if not self.ids:
            raise FeatureSetError(
                f"{storage.redact(url)}: no v_<id>.npy with a v_<id>.json; make some with launch/extract.py"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def sidecar(self, video_id: str) -> Sidecar:
        """Read one video's sidecar.

        Raises:
            FeatureSetError: it can't be understood.
        """
        url = storage.join(self.url, sidecar_name(video_id))
        try:
            return Sidecar.from_json(storage.read_bytes(url))
        except SidecarError as error:
            raise FeatureSetError(f"{storage.redact(url)}: {error}") from error

    def array(self, video_id: str) -> NDArray[np.float32]:
        """Read one video's features, float32 [T, C].

        Raises:
            FeatureSetError: not a two-dimensional array of numbers.
        """
        url = storage.join(self.url, array_name(video_id))
        return load_array(storage.read_bytes(url), storage.redact(url))

    def items(self) -> Iterator[tuple[Sidecar, NDArray[np.float32]]]:
        """Yield sidecar and array of every video in order of id.

        Raises:
            FeatureSetError: an array's shape is not what its sidecar says.
        """
        for video_id in self.ids:
            sidecar, array = self.sidecar(video_id), self.array(video_id)
            if array.shape != (sidecar.features, sidecar.feature_dim):
                raise FeatureSetError(
                    f"{array_name(video_id)}: shape {array.shape}, its sidecar says "
                    f"{(sidecar.features, sidecar.feature_dim)}; delete both and extract again"
                )
            yield sidecar, array


def load_array(data: bytes, where: str) -> NDArray[np.float32]:
    """Parse the bytes of a ``.npy`` file into float32 [T, C]; pickled objects are refused.

    Raises:
        FeatureSetError: not a two-dimensional array of numbers.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FeatureSetError(f"{where}: not a plain .npy array: {error}") from error
    array = np.squeeze(array) if array.ndim > 2 else array
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
        raise FeatureSetError(f"{where}: expected [T, C] numbers, found {array.dtype} {array.shape}")
    return np.asarray(array, dtype=np.float32)
