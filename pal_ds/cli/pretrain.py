"""Pre-train a video encoder with PAL: the command that the launcher starts on every rank.

    deepspeed --module pal_ds.cli.pretrain --config pal_i3d_k400 data.shards=s3://b/k400 run.dir=s3://b/run

Works under `deepspeed --module`, `torchrun -m`, `srun`, or as plain `pal-pretrain` for one process; in a checkout
`launch/pretrain.py` is the same. Run it again with the same run.dir to go on from the newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from pal_ds.cli.pretrain_arguments import build_parser, export_parser
from pal_ds.formats.closed_pipe import listing

if TYPE_CHECKING:
    from pal_ds.formats.backbone_file import BackboneSpec


def main(words: list[str] | None = None) -> int:
    """Run the command; see the module's text."""
    words = sys.argv[1:] if words is None else words
    words = [word for word in words if not word.startswith("--local_rank")]
    if words[:1] == ["export"]:
        return _export(words[1:])
    if words[:1] == ["options"]:
        return listing(_options)
    if words[:1] == ["configs"]:
        return listing(_configs)
    if words[:1] == ["doctor"]:
        from pal_ds.doctor.checkup import doctor

        return doctor(words[1:])
    return _pretrain(words)


def _pretrain(words: list[str]) -> int:
    parser = build_parser()
    args = parser.parse_intermixed_args(words)
    for flag, needs in (
        ("json", "dry_run"),
        ("ranks", "dry_run"),
        ("gpu", "dry_run"),
        ("cluster", "dry_run"),
        ("price", "gpu"),
        ("overwrite", "restart"),
    ):
        if getattr(args, flag) is not None and getattr(args, flag) is not False and not getattr(args, needs):
            parser.error(f"--{flag} has no effect without --{needs.replace('_', '-')}")
    if args.ranks and args.cluster:
        parser.error("--ranks has no effect with --cluster, whose GPUs are the ranks")
    if args.profile is not None and args.profile < 1:
        parser.error(f"--profile {args.profile}: use at least 1 step")
    if args.profile and args.dry_run:
        parser.error("--profile has no effect with --dry-run")
    from pal_ds.config import ConfigError, load_config
    from pal_ds.distributed.launcher import read_place

    try:
        place = read_place()
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    _prepare_process(place.rank)
    from pal_ds.formats.shardset import ShardSetError
    from pal_ds.storage import StorageError

    try:
        config = load_config(args.config, args.settings)
        if args.dry_run:
            from pal_ds.planning.dry_run import dry_run

            world_size = args.ranks or place.world_size
            price = 3.0 if args.price is None else args.price
            if place.rank:
                return 0
            return dry_run(
                config, world_size, as_json=args.json, gpu=args.gpu, price=price, cluster=args.cluster
            )
    except (ConfigError, ShardSetError, StorageError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    from pal_ds.training.pretrain import pretrain

    return pretrain(config, restart=args.restart, overwrite=args.overwrite, profile_steps=args.profile or 0)


def _export(words: list[str]) -> int:
    parser = export_parser()
    args = parser.parse_args(words)
    if not (args.out or args.hub or args.opentad):
        parser.error("say what to write: --out FILE, --hub DIR or --opentad DIR")
    if args.license and not (args.hub or args.opentad):
        parser.error("--license has no effect without --hub or --opentad")
    if args.name and not args.hub:
        parser.error("--name has no effect without --hub")
    from pal_ds.config import ConfigError
    from pal_ds.formats.backbone_file import BackboneError
    from pal_ds.storage import StorageError
    from pal_ds.transfer.backbone_export import export_backbone
    from pal_ds.transfer.export.hub_folder import export_hub
    from pal_ds.transfer.export.opentad import export_opentad

    license_id = args.license or "unknown"
    try:
        if args.out:
            sys.stdout.write(f"{args.out}: {_described(export_backbone(args.run, args.out))}\n")
        if args.hub:
            spec = export_hub(args.run, args.hub, license_id=license_id, name=args.name)
            sys.stdout.write(f"{args.hub}: {_described(spec)}\n")
        if args.opentad:
            spec = export_opentad(args.run, args.opentad, license_id=license_id)
            sys.stdout.write(f"{args.opentad}: {_described(spec)}\n")
    except (BackboneError, ConfigError, StorageError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _described(spec: BackboneSpec) -> str:
    return (
        f"{spec.backbone} at width {spec.width:g}, {spec.feature_dim} features for {spec.clip_frames} frames of "
        f"{spec.size} px, from {spec.source}"
    )


def _options() -> int:
    from pal_ds.config import Config, describe

    for name, default, text in describe(Config):
        sys.stdout.write(f"{name} = {default!r}\n    {text}\n")
    return 0


def _configs() -> int:
    from pal_ds.config.shipped_configs import shipped

    for name, path in shipped().items():
        sys.stdout.write(f"{name:<32} {path}\n")
    return 0


def _prepare_process(rank: int) -> None:
    """Set what must be set before torch and DeepSpeed are imported."""
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s rank {rank} %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for name in ("botocore", "aiobotocore", "s3fs", "fsspec", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warned: set[str] = set()

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        # All ranks read the same config, several times over: one of them says once what it thinks of it.
        text = " ".join(str(message).split())
        if rank == 0 and text not in warned:
            warned.add(text)
            sys.stderr.write(f"warning: {text}\n")

    warnings.showwarning = warn
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


if __name__ == "__main__":
    sys.exit(main())
