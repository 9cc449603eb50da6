"""A feature format in one file, then the real command: ``own_feature_format.py … --format npz``."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from pal_ds import storage
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.feature_formats import FORMATS, FeatureFormat


def write(features: FeatureStore, out_url: str, database: Mapping[str, Any]) -> None:
    """Write all videos into one ``features.npz``."""
    del database
    buffer = io.BytesIO()
    np.savez(buffer, **{video: features.load(video).values_tc for video in features.ids})
    storage.write_bytes(storage.join(out_url, "features.npz"), buffer.getvalue())


FORMATS["npz"] = FeatureFormat(readers="anybody", files="features.npz (<id> -> [T, C])", write=write)

if __name__ == "__main__":
    from pal_ds.cli.extract import main

    sys.exit(main())
