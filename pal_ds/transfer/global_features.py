"""Global video features (GVF) of TSP: the maximum over the features of all clips of an untrimmed video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
import torch
from safetensors.torch import save

from pal_ds.formats.feature_folder import FeatureError, FeatureStore
from pal_ds.formats.recording import recording_number


def global_features(store: FeatureStore, paths: Iterable[str]) -> bytes:
    """Pool the features of the recordings of a list of spans, as ``objective.gvf`` reads them.

    Args:
        store: features of the untrimmed videos, by the encoder that a training starts from.
        paths: files of the recordings, as the list that the shard set was built from names them.

    Returns:
        A safetensors file: ``recordings``, int64 [R], as batches number them, and ``features``, float32 [R, C].

    Raises:
        FeatureError: a recording has no features; the message names the first and counts them.
        StorageError: a file can't be read.
    """
    known = set(store.ids)
    ids = {path: PurePosixPath(path).stem.removeprefix("v_") for path in paths}
    missing = [path for path, video in ids.items() if video not in known]
    if missing:
        raise FeatureError(
            f"{store.url}: has no features of {len(missing)} of {len(ids)} recordings, the first is {missing[0]}; "
            "extract them all"
        )
    pooled = [store.load(video).values_tc.max(axis=0) for video in ids.values()]
    data: bytes = save(
        {
            "recordings": torch.tensor([recording_number(path) for path in ids], dtype=torch.int64),
            "features": torch.from_numpy(np.stack(pooled).astype(np.float32)),
        }
    )
    return data
