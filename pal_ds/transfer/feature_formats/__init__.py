"""What other code bases read: written from, and imported into, this project's feature folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.feature_formats import hdf5, tables, toolboxes

#: ``write(features, out_url, database)``; ``database`` holds the annotations by video id, or nothing.
Writer = Callable[[FeatureStore, str, Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureFormat:
    """One format: where its files go below the destination, who reads it, and how it is written."""

    readers: str
    files: str
    write: Writer


FORMATS: dict[str, FeatureFormat] = {
    "anet-hdf5": FeatureFormat(
        readers="G-TAD on ActivityNet",
        files="features.h5 (v_<id> -> [T, C]), video_info_new.csv, anet_anno_action.json",
        write=hdf5.write_anet,
    ),
    "gtad-thumos": FeatureFormat(
        readers="G-TAD on THUMOS'14",
        files="{rgb,flow}_{val,test}.h5 (<id> -> [frames, C], a row per sampled frame), {val,test}_Annotation.csv",
        write=hdf5.write_thumos,
    ),
    "bmn-csv": FeatureFormat(
        readers="BMN (JJBOY's)",
        files="csv_mean_100/v_<id>.csv (header, 100 rows), video_info_new.csv, anet_anno_action.json",
        write=tables.write_bmn,
    ),
    "lgi": FeatureFormat(readers="LGI", files="<id>.npy [T, C]", write=toolboxes.write_lgi),
    "opentad": FeatureFormat(
        readers="OpenTAD",
        files="dataset.py, annotations.json, category_idx.txt, missing_files.txt beside DEST/v_<id>.npy",
        write=toolboxes.write_opentad,
    ),
    "actionformer": FeatureFormat(
        readers="ActionFormer, TriDet",
        files="dataset.yaml, annotations.json beside DEST/v_<id>.npy",
        write=toolboxes.write_actionformer,
    ),
}
