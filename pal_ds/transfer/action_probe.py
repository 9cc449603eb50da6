"""Do frozen features tell action from background? A linear probe with its control beside it.

    python -m pal_ds.transfer.action_probe --features trained=DIR --features untrained=DIR --annotations FILE

A logistic regression learns on the training videos which moments lie inside an annotated action, and ranks the
moments of videos it has not seen. Its AUC is 50 for features that say nothing. *Within* takes each video's mean
feature away and averages the videos' own AUCs: what is asked is *when* something happens in a video, not in which
video much happens. Differences from the last features given (the control) come with a paired bootstrap over videos.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pal_ds import storage
from pal_ds.formats.feature_folder import FeatureError, FeatureStore
from pal_ds.transfer.datasets.annotations import AnnotationError, VideoAnnotation
from pal_ds.transfer.datasets.detection import read_detection
from pal_ds.transfer.tasks.class_scores import fit_softmax

DRAWS = 2000
Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Features of one video, and which of them are centred inside an annotated action.

    Attributes:
        values_tc: float32 [T, C].
        action_t: bool [T].
    """

    values_tc: NDArray[np.float32]
    action_t: Labels

    def centred(self) -> NDArray[np.float32]:
        """Return the features less their mean over the video."""
        centred: NDArray[np.float32] = self.values_tc - self.values_tc.mean(axis=0)
        return centred


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """AUCs in percent.

    Attributes:
        pooled: over all moments of all validation videos.
        within: mean over videos of each one's own, each video's mean feature taken away.
        within_v: the parts of ``within``, one a video that has both action and background.
    """

    pooled: float
    within: float
    within_v: Floats


def read_moments(
    store: FeatureStore, annotations: Sequence[VideoAnnotation], *, missing: float = 0.0
) -> list[Moments]:
    """Return the moments of every annotated video.

    Args:
        store: features.
        annotations: videos with their segments.
        missing: share of videos that may lack features.

    Raises:
        FeatureError: more videos lack features, or a file is damaged.
    """
    present = set(store.present([one.video for one in annotations], missing=missing, name="annotations"))
    found = []
    for annotation in annotations:
        if annotation.video not in present:
            continue
        features = store.load(annotation.video)
        action_t = np.zeros(len(features.centres_t), dtype=np.bool_)
        for segment in annotation.segments:
            action_t |= (features.centres_t >= segment.start) & (features.centres_t < segment.end)
        found.append(Moments(values_tc=features.values_tc, action_t=action_t))
    return found


def auc(scores_n: Floats, positive_n: Labels) -> float:
    """Return the area under the ROC curve in percent: how often a positive scores above a negative; ties count half.

    Raises:
        ValueError: positives or negatives are missing.
    """
    positives, negatives = int(positive_n.sum()), int((~positive_n).sum())
    if not positives or not negatives:
        raise ValueError("an AUC needs positives and negatives")
    _, place_n, count_u = np.unique(scores_n, return_inverse=True, return_counts=True)
    rank_u = np.cumsum(count_u) - (count_u - 1) / 2
    total = rank_u[place_n][positive_n].sum() - positives * (positives + 1) / 2
    return float(100 * total / (positives * negatives))


def probe(train: Sequence[Moments], val: Sequence[Moments]) -> ProbeResult:
    """Fit on the training videos and score the others.

    Raises:
        ValueError: a side has no action, or nothing but action.
    """
    if not any(_mixed(one) for one in val):
        raise ValueError("no validation video has both action and background")
    action_n = np.concatenate([one.action_t for one in train]).astype(int).tolist()
    if len(set(action_n)) < 2:
        raise ValueError("the training videos have no action, or nothing but action")
    raw = _scores(np.concatenate([one.values_tc for one in train]), action_n, [one.values_tc for one in val])
    centred = _scores(
        np.concatenate([one.centred() for one in train]), action_n, [one.centred() for one in val]
    )
    within_v = np.array(
        [auc(scores, one.action_t) for scores, one in zip(centred, val, strict=True) if _mixed(one)]
    )
    return ProbeResult(
        pooled=auc(np.concatenate(raw), np.concatenate([one.action_t for one in val])),
        within=float(within_v.mean()),
        within_v=within_v,
    )


def interval(values_v: Floats, *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over videos (of paired differences, or of one's own AUCs)."""
    draws = np.random.default_rng(seed).integers(0, len(values_v), (DRAWS, len(values_v)))
    low, high = np.percentile(values_v[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def compare(
    stores: Mapping[str, FeatureStore], train: Sequence[VideoAnnotation], val: Sequence[VideoAnnotation]
) -> dict[str, Any]:
    """Probe every feature set; the last is the control of the others.

    Returns:
        ``videos`` and, by name, ``pooled``, ``within``, ``within_interval``, and for all but the control ``gain``
        (within, less the control's) with ``gain_interval``. All in percent.

    Raises:
        FeatureError: features are missing or damaged.
        ValueError: see :func:`probe`.
    """
    results = {
        name: probe(read_moments(store, train), read_moments(store, val)) for name, store in stores.items()
    }
    control = list(results)[-1]
    found: dict[str, Any] = {}
    for name, result in results.items():
        found[name] = {
            "pooled": result.pooled,
            "within": result.within,
            "within_interval": interval(result.within_v),
        }
        if name != control:
            gain_v = result.within_v - results[control].within_v
            found[name] |= {"gain": float(gain_v.mean()), "gain_interval": interval(gain_v)}
    return {"videos": len(results[control].within_v), "control": control, "features": found}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit status 0, or 2 where its input can't be used."""
    arguments = _parser().parse_args(argv)
    try:
        stores = {}
        for given in arguments.features:
            name, equals, url = given.partition("=")
            if not equals:
                raise FeatureError(f"--features {given}: write NAME=FOLDER")
            stores[name] = FeatureStore(url)
        subsets = [read_detection(arguments.annotations, name) for name in (arguments.train, arguments.val)]
        document = compare(stores, *subsets)
    except (FeatureError, AnnotationError, ValueError, storage.StorageError) as error:
        sys.stderr.write(f"action_probe: {error}\n")
        return 2
    sys.stdout.write(json.dumps(document) + "\n" if arguments.json else _table(document))
    return 0


def _scores(
    train_nc: NDArray[np.float32], action_n: list[int], videos: Sequence[NDArray[np.float32]]
) -> list[Floats]:
    weight_kc, bias_k, mean_c, scale_c = fit_softmax(train_nc, action_n, 2)
    slope_c, offset = weight_kc[1] - weight_kc[0], bias_k[1] - bias_k[0]
    return [(((values - mean_c) / scale_c) @ slope_c + offset).astype(np.float64) for values in videos]


def _mixed(moments: Moments) -> bool:
    return bool(moments.action_t.any() and not moments.action_t.all())


def _table(document: Mapping[str, Any]) -> str:
    lines = [
        f"AUC of action against background on {document['videos']} unseen videos, percent (50: features say nothing)"
    ]
    for name, row in document["features"].items():
        low, high = row["within_interval"]
        line = f"{name:20} pooled {row['pooled']:5.1f}  within a video {row['within']:5.1f} [{low:.1f}, {high:.1f}]"
        if "gain" in row:
            low, high = row["gain_interval"]
            line += f"  beyond {document['control']} {row['gain']:+.1f} [{low:+.1f}, {high:+.1f}]"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pal_ds.transfer.action_probe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--features",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="of pal-extract; give the control last",
    )
    parser.add_argument("--annotations", required=True, help="ActivityNet's JSON form, or TSP's list")
    parser.add_argument("--train", default="training", help="subset that the probe learns on")
    parser.add_argument("--val", default="validation", help="subset that is scored")
    parser.add_argument("--json", action="store_true", help="print one object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
