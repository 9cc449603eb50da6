"""What frozen features say about trimmed videos: kNN and linear probe, ``python -m benchmarks.fidelity.probe``.

Twice: of the mean of a video's features, and of what is left without it, its *changes* over time in order. Nothing
is chosen by these figures: k and the regression's steps are fixed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.extraction.video_source import list_videos, read_sample
from pal_ds.transfer.tasks.class_scores import fit_softmax

#: Neighbours, and the temperature of their votes (Wu et al., CVPR 2018).
NEIGHBOURS, TEMPERATURE = 20, 0.07
Floats = NDArray[np.float32]


def read_split(features: FeatureStore, shards: str, split: str) -> tuple[list[Floats], list[str]]:
    """Return every video's features [T, C] and the labels of one split of a labelled shard set."""
    rows: list[Floats] = []
    labels: list[str] = []
    for video in list_videos(shards, split=split):
        sample = read_sample(video)
        if sample.record.label is None:
            raise ValueError(f"{video.source}: has no label; build the set --with-labels")
        rows.append(features.load(video.id).values_tc)
        labels.append(sample.record.label)
    return rows, labels


def changes(videos: list[Floats], length: int) -> Floats:
    """Return each video's first ``length`` features less the mean of all of its own, in order: [N, length * C]."""
    return np.stack([(rows - rows.mean(axis=0))[:length].reshape(-1) for rows in videos])


def same_video(videos: list[Floats]) -> float:
    """Share of videos whose even features are, on average, most like their own odd ones among all, in percent."""
    mean = np.concatenate(videos).mean(axis=0)
    even, odd = (_unit(np.stack([rows[first::2].mean(axis=0) for rows in videos]) - mean) for first in (0, 1))
    return float(100 * ((even @ odd.T).argmax(axis=1) == np.arange(len(videos))).mean())


def knn_accuracy(
    train_nc: Floats, train: list[int], val_mc: Floats, val: list[int], *, classes: int
) -> float:
    """Share of validation clips named right by their neighbours' weighted votes, in percent.

    Features are centred by the training mean before the cosine: after a ReLU all of them point one way.
    """
    mean = train_nc.mean(axis=0)
    unit_n, unit_m = (_unit(rows - mean) for rows in (train_nc, val_mc))
    similarity = unit_m @ unit_n.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = np.exp(np.take_along_axis(similarity, nearest, axis=1) / TEMPERATURE)
    votes = np.zeros((len(val), classes))
    np.add.at(votes, (np.arange(len(val))[:, None], np.array(train)[nearest]), weights)
    return float(100 * (votes.argmax(axis=1) == np.array(val)).mean())


def linear_accuracy(
    train_nc: Floats, train: list[int], val_mc: Floats, val: list[int], *, classes: int
) -> float:
    """Top-1 of a softmax regression, in percent."""
    weight, bias, mean, scale = fit_softmax(train_nc, train, classes)
    return float(100 * ((((val_mc - mean) / scale) @ weight.T + bias).argmax(axis=1) == np.array(val)).mean())


def scene_share(features: FeatureStore) -> float:
    """Share of the features' variance that lies between videos rather than within them, in percent.

    Near 100 a feature tells which video it is from, and little of what happens in it when.
    """
    videos = [features.load(video).values_tc.astype(np.float64) for video in features.ids]
    everything = np.concatenate(videos)
    mean = everything.mean(axis=0)
    between = sum(len(rows) * np.square(rows.mean(axis=0) - mean).sum() for rows in videos)
    return float(100 * between / np.square(everything - mean).sum())


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.probe", description=__doc__)
    parser.add_argument("--features", required=True, help="of the shard set's clips, from launch/extract.py")
    parser.add_argument("--shards", required=True, help="labelled shard set with the splits train and val")
    parser.add_argument("--out", type=Path, required=True, help="folder for probe.json")
    arguments = parser.parse_args(argv)
    store = FeatureStore(arguments.features)
    train_videos, train_names = read_split(store, arguments.shards, "train")
    val_videos, val_names = read_split(store, arguments.shards, "val")
    numbers = {name: number for number, name in enumerate(sorted(set(train_names)))}
    train, val = ([numbers[name] for name in names] for names in (train_names, val_names))
    length = min(len(rows) for rows in (*train_videos, *val_videos))
    found: dict[str, float] = {
        "classes": len(numbers),
        "train": len(train),
        "val": len(val),
        "chance": 100 / len(numbers),
        "scene_share": scene_share(store),
        "same_video": same_video(val_videos),
    }

    def means(videos: list[Floats]) -> Floats:
        return np.stack([rows.mean(axis=0) for rows in videos])

    def moves(videos: list[Floats]) -> Floats:
        return changes(videos, length)

    for suffix, seen in (("", means), ("_changes", moves)):
        train_nc, val_mc = seen(train_videos), seen(val_videos)
        found["knn" + suffix] = knn_accuracy(train_nc, train, val_mc, val, classes=len(numbers))
        found["linear" + suffix] = linear_accuracy(train_nc, train, val_mc, val, classes=len(numbers))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "probe.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    return 0


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())
