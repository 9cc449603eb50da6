"""Train and score a localization head on frozen features: ``pal-transfer --task tad --config FILE``.

The features are those that ``pal-extract`` writes. The config is a file, or the name of one of ``configs/transfer/``;
words ``section.key=value`` are laid over it. Run the same command again to go on after an interruption.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from pal_ds.cli import export_localizer
from pal_ds.command_line.parser import CommandParser, Example, Word
from pal_ds.formats.closed_pipe import listing

TASKS = {
    "tad": "temporal action detection: G-TAD or BMN with classes; mAP",
    "apg": "action proposal generation: BMN or G-TAD; AR@AN and AUC",
    "vg": "video grounding: LGI; R@1 and mIoU",
    "e2e": "LoFi: encoder and G-TAD or BMN trained together on low-resolution video; AUC, or mAP with class scores",
    "tac": "trimmed action classification: the backbone fine-tuned on a labelled shard set; top-1, top-5",
}
_EXAMPLES = (
    Example(
        "detection on ActivityNet",
        "pal-transfer --task tad --config tad_activitynet_gtad data.features=s3://bucket/features/anet "
        "data.annotations=activity_net.v1-3.min.json run.dir=runs/tad",
    ),
    Example(
        "grounding on Charades-STA",
        "pal-transfer --task vg --config vg_charades_lgi data.features=features/charades run.dir=runs/vg "
        "data.annotations=charades_sta_train.txt data.evaluate_annotations=charades_sta_test.txt",
    ),
    Example(
        "classification of trimmed clips, the backbone fine-tuned",
        "pal-transfer --task tac --config tac_ucf101 model.backbone=backbone.safetensors "
        "data.shards=s3://bucket/ucf101 run.dir=runs/tac",
    ),
    Example(
        "encoder and head trained together on low-resolution video",
        "pal-transfer --task e2e --config e2e_activitynet_gtad encoder.backbone=RUN run.dir=runs/lofi "
        "data.videos=s3://bucket/anet data.annotations=activity_net.v1-3.min.json",
    ),
)
_CLOSING = """
The run folder gets config.yaml, metrics.jsonl, checkpoints/epoch-<n>/, predictions.json (official form),
result.json and, for tad, report.html.

exit status: 0 done; 75 stopped by a signal, run it again; 2 bad config or malformed file; 1 failed
"""


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    tasks = "\n".join(f"  {name:<5} {text}" for name, text in TASKS.items())
    parser = CommandParser(
        prog="pal-transfer",
        description=f"Train and score a localization head on frozen features. Tasks:\n\n{tasks}",
        examples=_EXAMPLES,
        closing=_CLOSING,
        words={
            "export": Word("a trained head and its encoder for pal-localize", export_localizer.build_parser)
        },
        top=True,
    )
    parser.usage = "%(prog)s --task TASK --config FILE [section.key=value ...]"
    parser.add_argument("--task", choices=TASKS, metavar="TASK", help=f"one of {', '.join(TASKS)}")
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file, or a shipped config's name, e.g. tad_demo_gtad"
    )
    parser.add_argument(
        "--options", action="store_true", help="list every option, its default and its meaning, and leave"
    )
    parser.add_argument("override", nargs="*", metavar="section.key=value", help="laid over the config")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see ``--help``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["export"]:
        return export_localizer.main(words[1:])
    parser = build_parser()
    options = parser.parse_intermixed_args(words)
    if options.options:
        return listing(_list_options)
    if options.task is None or options.config is None:
        parser.error("--task and --config are required")
    refusal = _more_than_one_process()
    if refusal:
        return _refuse(refusal)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    return _run(options.task, options.config, options.override)


def _more_than_one_process() -> str:
    from pal_ds.config.base import ConfigError
    from pal_ds.distributed.launcher import read_place

    try:
        ranks = read_place().world_size
    except ConfigError as error:
        return str(error)
    return "" if ranks == 1 else f"{ranks} ranks were started: heads train in one process; use plain python"


def _run(task: str, path: str, overrides: list[str]) -> int:
    from pal_ds.config.base import ConfigError
    from pal_ds.config.end_to_end import EndToEndConfig
    from pal_ds.config.loading import apply_overrides, build, load_tree
    from pal_ds.config.tac import TacConfig
    from pal_ds.config.transfer import TransferConfig

    kinds: dict[str, Any] = {"tac": TacConfig, "e2e": EndToEndConfig}
    try:
        tree = apply_overrides(load_tree(path), overrides)
        config = build(kinds.get(task, TransferConfig), tree)
    except ConfigError as error:
        return _refuse(str(error))
    from pal_ds.formats import exit_status
    from pal_ds.formats.backbone_file import BackboneError
    from pal_ds.formats.feature_folder import FeatureError
    from pal_ds.formats.shardset import ShardSetError
    from pal_ds.storage import StorageAccessError, StorageError, StorageNotFoundError
    from pal_ds.transfer.datasets.annotations import AnnotationError
    from pal_ds.transfer.head_trainer import Preempted, train

    refused = (
        AnnotationError,
        BackboneError,
        ConfigError,
        FeatureError,
        ShardSetError,
        StorageAccessError,
        StorageNotFoundError,
    )
    try:
        result = train(task, config)
    except Preempted:
        print(
            "stopped by a signal after the last whole epoch; run the same command to go on", file=sys.stderr
        )
        return exit_status.PREEMPTED
    except refused as error:
        return _refuse(str(error))
    except (StorageError, FloatingPointError) as error:
        print(f"pal-transfer: error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


def _refuse(message: str) -> int:
    print(f"pal-transfer: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _list_options() -> int:
    from pal_ds.config.end_to_end import EndToEndConfig
    from pal_ds.config.loading import describe
    from pal_ds.config.tac import TacConfig
    from pal_ds.config.transfer import TransferConfig

    kinds: tuple[tuple[str, Any], ...] = (
        ("tad, apg, vg", TransferConfig),
        ("tac", TacConfig),
        ("e2e", EndToEndConfig),
    )
    for tasks, kind in kinds:
        print(f"--task {tasks}\n")
        for name, default, text in describe(kind):
            print(f"{name} = {default!r}\n    {text}")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
