"""The command ``pal-transfer export``: a run's head with its encoder as one folder for ``pal-localize``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from pal_ds import __version__, storage
from pal_ds.command_line.parser import CommandParser, Example
from pal_ds.formats import exit_status

_EXAMPLES = (
    Example(
        "the head of a run, with the encoder that made its features; then: pal-localize VIDEO --model models/anet",
        "pal-transfer export runs/tad --encoder runs/pal-k400 --out models/anet",
    ),
    Example(
        "features and annotations have moved since; a threshold of one's own",
        "pal-transfer export s3://bucket/runs/tad --encoder backbone.safetensors --out models/anet "
        "--features /data/features/anet --annotations activity_net.v1-3.min.json --threshold 0.2",
    ),
)
_DETAILS = """
what is written:
  MODEL/encoder.safetensors  the frozen backbone
  MODEL/head.safetensors     the head, and the classifier of segments where the head tells no classes apart
  MODEL/model.json           classes, sampling, NMS, threshold, versions; written last
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    import torch

    from pal_ds.config.base import ConfigError
    from pal_ds.formats.backbone_file import BackboneError
    from pal_ds.formats.feature_folder import FeatureError
    from pal_ds.transfer.datasets.annotations import AnnotationError
    from pal_ds.transfer.localize.errors import ModelError
    from pal_ds.transfer.localize.export import ExportOptions, export_model

    options = ExportOptions(
        features=arguments.features,
        annotations=arguments.annotations,
        epoch=arguments.epoch,
        threshold=arguments.threshold,
    )
    versions = {"pal_ds": __version__, "torch": torch.__version__}
    refused = (
        AnnotationError,
        BackboneError,
        ConfigError,
        FeatureError,
        ModelError,
        storage.StorageAccessError,
        storage.StorageNotFoundError,
    )
    try:
        spec, warnings = export_model(arguments.run, arguments.encoder, arguments.out, options, versions)
    except refused as error:
        return _say(error, exit_status.REFUSED)
    except storage.StorageError as error:
        return _say(error, exit_status.FAILED)
    for line in warnings:
        sys.stderr.write(f"warning: {line}\n")
    out = storage.redact(arguments.out)
    if arguments.json:
        about = {"out": out, **spec.to_tree()}
        sys.stdout.write(json.dumps(about) + "\n")
    else:
        classes = f"{len(spec.classes)} classes" if spec.classes else "actions without classes"
        sys.stdout.write(
            f"{out}: {spec.reading.head.name} of epoch {spec.trained['epoch']}, {classes}, "
            f"shown from a score of {spec.threshold:.3g}; use it with: pal-localize VIDEO --model {out}\n"
        )
    return exit_status.DONE


def _say(error: object, status: int) -> int:
    sys.stderr.write(f"pal-transfer export: error: {' '.join(str(error).split())}\n")
    return status


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-transfer export",
        description="Export a trained head and the encoder of its features as one folder for pal-localize.",
        examples=_EXAMPLES,
        details=_DETAILS,
        closing="exit status: 0 done; 2 no such run, or head and encoder don't fit; 1 failed",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="run folder of pal-transfer --task tad or apg; path or URL")
    add(
        "--encoder",
        required=True,
        help="what made the run's features: run, checkpoint, backbone.safetensors or random:NAME",
    )
    add("--out", required=True, metavar="MODEL", help="folder or URL of the model")
    add("--features", default="", help="folder of the run's features (default: where the run says)")
    add("--annotations", default="", help="the run's annotations (default: where the run says)")
    add("--epoch", type=int, default=0, help="whose weights (default: the epoch that the run reports)")
    add(
        "--threshold",
        type=float,
        help="score from which actions are shown (default: the best F1 at tIoU 0.5 on the evaluated subset)",
    )
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser
