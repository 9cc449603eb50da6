"""``pal-eval spans`` and ``pal-eval gvf``: from annotations to what TSP trains on."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Any

from pal_ds.command_line.parser import Example

COMMANDS = ("spans", "gvf")
_SPANS = (
    Example(
        "ActivityNet at 15 frames a second",
        "pal-eval spans --ground-truth activity_net.v1-3.min.json --out spans.csv --name 'v_{id}.mp4'",
    ),
    Example(
        "then pack them",
        "pal-shard build spans.csv SHARDS --video-root VIDEOS --with-labels --split-column --fps 15",
    ),
)
_GVF = (
    Example("features first", "pal-extract --checkpoint RUN --videos VIDEOS --out FEATURES"),
    Example("pool them", "pal-eval gvf --features FEATURES --spans spans.csv --out gvf.safetensors"),
    Example(
        "then train on them",
        "pal-pretrain --config tsp_r2plus1d34_anet objective.gvf=gvf.safetensors data.shards=SHARDS run.dir=runs/tsp",
    ),
)


def add_commands(tasks: Any) -> None:
    """Add both to the sub-commands of ``pal-eval``."""
    spans = tasks.add_parser(
        "spans",
        help="list the actions of untrimmed videos, and what lies between them, for pal-shard build",
        description="List the actions of untrimmed videos, and what lies between them, for pal-shard build.",
        examples=_SPANS,
    )
    spans.add_argument("--ground-truth", required=True, metavar="GT", help="annotations (JSON): path or URL")
    spans.add_argument("--out", required=True, metavar="CSV", help="list to write: path or URL")
    spans.add_argument("--name", default="v_{id}.mp4", help="file of a video (default: v_{id}.mp4)")
    spans.add_argument(
        "--subset",
        action="append",
        metavar="SUBSET=SPLIT",
        help="subset to take and the split it becomes; repeatable (default: training=train, validation=val)",
    )
    spans.add_argument(
        "--background",
        default="background",
        metavar="LABEL",
        help="of spans without action (default: background)",
    )
    spans.add_argument(
        "--min-seconds",
        type=float,
        default=16 / 15,
        metavar="S",
        help="leave out what is shorter (default: 16 frames at 15 a second)",
    )
    gvf = tasks.add_parser(
        "gvf",
        help="pool features of untrimmed videos into global video features, for objective.gvf of tsp",
        description="Pool features of untrimmed videos into global video features, for objective.gvf of tsp.",
        examples=_GVF,
    )
    gvf.add_argument(
        "--features", required=True, metavar="DIR", help="folder that pal-extract wrote: path or URL"
    )
    gvf.add_argument("--spans", required=True, metavar="CSV", help="list that the shard set was built from")
    gvf.add_argument("--out", required=True, metavar="FILE", help="table to write: path or URL")
    for parser in (spans, gvf):
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(options: argparse.Namespace) -> int:
    """Run one of the commands; 2 where a file is malformed or an option is wrong, told in one line."""
    try:
        figures = _spans(options) if options.task == "spans" else _gvf(options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"pal-eval: error: {' '.join(str(error).split())}\n")
        return 2
    text = ", ".join(f"{name} {value}" for name, value in figures.items())
    sys.stdout.write((json.dumps(figures) if options.json else text) + "\n")
    return 0


def _spans(options: argparse.Namespace) -> dict[str, object]:
    from pal_ds import storage
    from pal_ds.transfer.datasets.annotations import AnnotationError
    from pal_ds.transfer.datasets.detection import read_database
    from pal_ds.transfer.datasets.spans import spans_of, to_csv

    if "{id}" not in options.name:
        raise ValueError(f"--name {options.name}: write {{id}} where a video's id stands")
    given = options.subset or ["training=train", "validation=val"]
    pairs = [text.partition("=") for text in given]
    if not all(subset and split for subset, _, split in pairs):
        raise ValueError(f"--subset {' '.join(given)}: give SUBSET=SPLIT, e.g. training=train")
    spans = list(
        spans_of(
            read_database(options.ground_truth),
            splits={subset: split for subset, _, split in pairs},
            name=options.name,
            background=options.background,
            min_seconds=options.min_seconds,
            source=options.ground_truth,
        )
    )
    if not spans:
        raise AnnotationError(options.ground_truth, "", f"has no span in the subsets {', '.join(given)}")
    storage.write_bytes(options.out, to_csv(spans), retry=storage.AT_START)
    background = sum(span.label == options.background for span in spans)
    splits = Counter(span.split for span in spans)
    return {
        "videos": len({span.path for span in spans}),
        "actions": len(spans) - background,
        "background": background,
        **{f"spans of {split}": count for split, count in sorted(splits.items())},
    }


def _gvf(options: argparse.Namespace) -> dict[str, object]:
    from pal_ds import storage
    from pal_ds.formats.feature_folder import FeatureStore
    from pal_ds.transfer.datasets.spans import paths_of
    from pal_ds.transfer.datasets.text_file import read_text
    from pal_ds.transfer.global_features import global_features

    paths = paths_of(read_text(options.spans), options.spans)
    data = global_features(FeatureStore(options.features), paths)
    storage.write_bytes(options.out, data, retry=storage.AT_START)
    return {"recordings": len(paths), "bytes": len(data)}
