"""The arguments of ``pal-pretrain`` and of its ``export``, and the helps that teach them."""

from __future__ import annotations

from pal_ds.command_line.parser import CommandParser, Example, Word
from pal_ds.doctor import checkup

_EXAMPLES = (
    Example(
        "what it would do: sizes, memory, steps; nothing is written",
        "pal-pretrain --config pal_i3d_k400 --dry-run --ranks 64 --gpu h100 data.shards=s3://bucket/k400 "
        "run.dir=s3://bucket/runs/1",
    ),
    Example(
        "all GPUs of this machine (torchrun --nproc-per-node=8 -m pal_ds.cli.pretrain … does the same)",
        "deepspeed --module pal_ds.cli.pretrain --config pal_i3d_k400 data.shards=s3://bucket/k400 "
        "run.dir=s3://bucket/runs/1 data.global_batch=256 precision=bf16",
    ),
    Example(
        "one process on the CPU",
        "pal-pretrain --config demo data.shards=shards/ run.dir=runs/demo run.device=cpu",
    ),
)
_CLOSING = """
Run it again with the same run.dir to go on from the newest checkpoint.

exit status: 0 done; 75 preempted, run the same command again; 2 the settings or places are wrong; 1 failed
(STATUS.json in run.dir says the same; a launcher may replace the status by its own)
"""
_EXPORT_EXAMPLES = (
    Example("one file with plain keys", "pal-pretrain export runs/1 --out backbone.safetensors"),
    Example(
        "for model hubs, with a model card",
        "pal-pretrain export s3://bucket/runs/1 --hub pal-i3d --license apache-2.0 --name 'PAL I3D'",
    ),
    Example("for OpenTAD", "pal-pretrain export runs/1 --opentad opentad-backbone"),
)


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-pretrain",
        description="Pre-train a video encoder with PAL: the command that the launcher starts on every rank. "
        "Any option of the config file can be given as section.key=value.",
        examples=_EXAMPLES,
        closing=_CLOSING,
        words={
            "options": Word("every option, its default, its meaning"),
            "configs": Word("the configs that ship with the package, and their files"),
            "doctor": Word(
                "is this machine ready? says the fix where not (pal-doctor)", checkup.build_parser
            ),
            "export": Word("the bare backbone of a run, for other code", export_parser),
        },
        top=True,
    )
    parser.usage = "%(prog)s --config FILE [options] [section.key=value ...]"
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="YAML file, or a shipped config's name, e.g. demo"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop; nothing is written")
    parser.add_argument("--json", action="store_true", help="with --dry-run: print one JSON object")
    parser.add_argument("--restart", action="store_true", help="begin anew; run.dir must be empty")
    parser.add_argument("--overwrite", action="store_true", help="with --restart: delete what is in run.dir")
    parser.add_argument("--ranks", type=int, default=None, help="with --dry-run: plan for so many ranks")
    parser.add_argument(
        "--gpu", metavar="NAME", help="with --dry-run: estimate memory, time and price on it, e.g. h100"
    )
    parser.add_argument(
        "--price", type=float, metavar="X", help="with --gpu: money per GPU and hour (default: 3)"
    )
    parser.add_argument(
        "--cluster",
        metavar="nodes=N,gpus=N,...",
        help="with --dry-run: simulate the run on such machines and name the bottleneck; also cores, decode_rate, "
        "train_rate (videos/s of a core, a GPU), first_byte_ms, connection_mbs, network_gbits",
    )
    parser.add_argument(
        "--profile",
        type=int,
        nargs="?",
        const=5,
        metavar="STEPS",
        help="write a Chrome trace of so many steps (5) of every rank to run.dir/profile",
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="settings over the file's")
    parser.set_rare("--json", "--price", "--overwrite", "--profile", "--cluster")
    return parser


def export_parser() -> CommandParser:
    """Return the parser of ``pal-pretrain export``."""
    parser = CommandParser(
        prog="pal-pretrain export",
        description="Write the bare backbone of a run for other code: one file, a folder for model hubs, or a "
        "backbone for OpenTAD. Several may be given at once.",
        examples=_EXPORT_EXAMPLES,
        closing="exit status: 0 written; 2 no such run, or a place that can't be read or written",
    )
    parser.add_argument(
        "run", metavar="RUN", help="run, one checkpoint, or what was exported before; path or URL"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="safetensors: plain keys, metadata to rebuild it, e.g. backbone.safetensors",
    )
    parser.add_argument(
        "--hub", metavar="DIR", help="config.json, model.safetensors, and a model card filled from the run"
    )
    parser.add_argument(
        "--opentad", metavar="DIR", help="a file to drop into OpenTAD, the encoder, and its part of a config"
    )
    parser.add_argument("--license", metavar="ID", help="SPDX id for the model card (default: unknown)")
    parser.add_argument("--name", help="heading of --hub's model card (default: backbone and objective)")
    return parser
