"""Two questions to a corpus: can the background be cheated with, and can the motion be learned?

    python -m corpora.mocap.probe --corpus DIR

The first is a linear probe on the first frame of every trimmed clip, which has to stay near chance; the same
probe on the middle frame shows what pose alone gives away. The second is a small 3D network, trained on
``train`` and scored on ``val``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from corpora.mocap.probe_data import Clips, load
from corpora.mocap.probe_net import predict, train

_DECAYS = (1.0, 0.1, 0.01, 0.001)
_FOLDS = 4


def pixels(frames_n3hw: Tensor) -> Tensor:
    """Features of a linear probe: the frame at 32 x 32 in colour, float32 [N, 3072]."""
    return F.avg_pool2d(frames_n3hw.float() / 255, 2).flatten(1)


def linear_probe(
    train_nd: Tensor, labels_n: Tensor, val_nd: Tensor, val_labels_n: Tensor
) -> dict[str, float]:
    """Logistic regression; its weight decay is chosen by cross-validation inside the training set.

    Returns:
        ``train`` and ``val`` accuracy in percent, and the ``decay`` chosen.
    """
    scores = {}
    fold_n = torch.arange(len(labels_n)) % _FOLDS
    for decay in _DECAYS:
        hits = 0.0
        for fold in range(_FOLDS):
            inner, outer = fold_n != fold, fold_n == fold
            guess = _fitted(train_nd[inner], labels_n[inner], train_nd[outer], decay)
            hits += float((guess == labels_n[outer]).sum())
        scores[decay] = hits / len(labels_n)
    decay = max(_DECAYS, key=lambda one: scores[one])
    both = torch.cat([train_nd, val_nd])
    guess = _fitted(train_nd, labels_n, both, decay)
    right = guess == torch.cat([labels_n, val_labels_n])
    count = len(labels_n)
    return {"train": _percent(right[:count]), "val": _percent(right[count:]), "decay": decay}


def _fitted(train_nd: Tensor, labels_n: Tensor, asked_nd: Tensor, decay: float) -> Tensor:
    """Fit on one set (standardised by it), and predict another."""
    mean, std = train_nd.mean(dim=0), train_nd.std(dim=0) + 1e-3
    inputs, asked = (train_nd - mean) / std, (asked_nd - mean) / std
    classes = int(labels_n.max()) + 1
    weight = torch.zeros(inputs.shape[1] + 1, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weight[:-1] + weight[-1], labels_n)
        loss = loss + decay * weight[:-1].square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (asked @ weight[:-1] + weight[-1]).argmax(dim=1).detach()


def _percent(right_n: Tensor) -> float:
    return round(100 * float(right_n.float().mean()), 1)


def _motion(train_clips: Clips, val_clips: Clips, classes: int, epochs: int, seed: int) -> dict[str, object]:
    began = time.monotonic()

    def log(line: str) -> None:
        print(f"{line} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)

    net = train(train_clips, classes, epochs, seed, log)
    guess = predict(net, val_clips).argmax(dim=1)
    right = guess == val_clips.labels_n
    order = torch.randperm(val_clips.grey_nthw.shape[1], generator=torch.Generator().manual_seed(seed))
    mixed = dataclasses.replace(val_clips, grey_nthw=val_clips.grey_nthw[:, order])
    shuffled = predict(net, mixed).argmax(dim=1) == val_clips.labels_n
    by_class = [_percent(right[val_clips.labels_n == number]) for number in range(classes)]
    confusions: dict[tuple[int, int], int] = {}
    for truth, said in zip(val_clips.labels_n.tolist(), guess.tolist(), strict=True):
        if truth != said:
            confusions[truth, said] = confusions.get((truth, said), 0) + 1
    return {
        "train": _percent(predict(net, train_clips).argmax(dim=1) == train_clips.labels_n),
        "val": _percent(right),
        "val_frames_shuffled": _percent(shuffled),
        "by_class": by_class,
        "confusions": [[*pair, count] for pair, count in sorted(confusions.items(), key=lambda one: -one[1])][
            :10
        ],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run both probes and print one JSON object.

    Returns:
        0 if the corpus passes (first frame within 5 points of chance, 3D network at 70 % or more), else 1; 2
        for bad usage.
    """
    parser = argparse.ArgumentParser(prog="python -m corpora.mocap.probe", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=90, help="of the 3D network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        train_clips, val_clips = load(options.corpus, "train"), load(options.corpus, "val")
    except ValueError as error:
        print(f"corpora.mocap.probe: {error}", file=sys.stderr)
        return 2
    classes = int(train_clips.labels_n.max()) + 1
    chance = 100 / classes
    frames = {
        name: linear_probe(pixels(ours), train_clips.labels_n, pixels(theirs), val_clips.labels_n)
        for name, ours, theirs in (
            ("first_frame", train_clips.first_n3hw, val_clips.first_n3hw),
            ("middle_frame", train_clips.middle_n3hw, val_clips.middle_n3hw),
        )
    }
    motion = _motion(train_clips, val_clips, classes, options.epochs, options.seed)
    passed = frames["first_frame"]["val"] <= chance + 5 and float(str(motion["val"])) >= 70
    found = {
        "clips": {"train": len(train_clips.labels_n), "val": len(val_clips.labels_n)},
        "chance": round(chance, 1),
    }
    print(json.dumps(found | frames | {"network_3d": motion, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
