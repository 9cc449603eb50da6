"""The command ``pal-extract import``: features of other code bases into this project's form."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from pal_ds import storage
from pal_ds.command_line.parser import CommandParser, Example
from pal_ds.config.base import ConfigError
from pal_ds.formats.feature_folder import FeatureError
from pal_ds.transfer.datasets.annotation_rows import read_database
from pal_ds.transfer.feature_formats.importing import KINDS, ImportOptions, import_features

_EXAMPLES = (
    Example(
        "TSP's features of ActivityNet (15 frames a second, clips of 16, stride 16)",
        "pal-extract import --kind hdf5 --features tsp.h5 --out features/tsp "
        "--fps 15 --clip-frames 16 --stride 16 --annotations activity_net.v1-3.json",
    ),
    Example(
        "two-stream I3D of THUMOS'14 as ActionFormer ships it (clips of 16, stride 4, fps from the annotations)",
        "pal-extract import --kind npy --features i3d_features/ --out features/i3d "
        "--clip-frames 16 --stride 4 --annotations thumos14.json",
    ),
    Example(
        "BMN's 100 rows per video",
        "pal-extract import --kind csv --features csv_mean_100/ --out features/tsn --rescaled "
        "--annotations activity_net.v1-3.json",
    ),
)


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-extract import",
        description="Bring features made elsewhere into the form that the heads and evaluators here read.",
        examples=_EXAMPLES,
        closing="exit status: 0 done; 2 bad usage or files that are no features; 1 failed",
    )
    add = parser.add_argument
    add("--features", required=True, help="folder of files, or one HDF5 file; path or URL")
    add("--out", required=True, help="empty folder or URL for v_<id>.npy and sidecars")
    add("--annotations", required=True, help="ActivityNet-style JSON; gives duration and, without --fps, fps")
    add("--kind", choices=KINDS, default="npy", help="form of the features (default: npy)")
    add(
        "--fps",
        type=float,
        default=0.0,
        help="sampled frames per second (default: each video's in the annotations)",
    )
    add("--clip-frames", type=int, default=0, help="sampled frames per feature")
    add("--stride", type=float, default=0.0, help="sampled frames between features")
    add("--offset", type=float, default=0.0, help="sampled frame where the first clip starts (default: 0)")
    add("--rescaled", action="store_true", help="rows are spread evenly over each video's duration")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        options = ImportOptions(
            kind=arguments.kind,
            rescaled=arguments.rescaled,
            fps=arguments.fps,
            clip_frames=arguments.clip_frames,
            stride=arguments.stride,
            offset=arguments.offset,
        )
        written, unknown = import_features(
            arguments.features, arguments.out, options, read_database(arguments.annotations)
        )
    except (ConfigError, FeatureError, storage.StorageAccessError, storage.StorageNotFoundError) as error:
        sys.stderr.write(f"import: {error}\n")
        return 2
    except storage.StorageError as error:
        sys.stderr.write(f"import: {error}\n")
        return 1
    if arguments.json:
        summary = {"out": storage.redact(arguments.out), "written": written, "without_annotation": unknown}
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        left = f"; {len(unknown)} without annotation left out, first {unknown[0]}" if unknown else ""
        sys.stdout.write(f"{written} videos imported into {storage.redact(arguments.out)}{left}\n")
    return 0
