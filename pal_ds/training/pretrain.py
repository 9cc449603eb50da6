"""A pre-training run from its config to its exit status: starts, resumes, and ends well or clearly."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import torch

from pal_ds import shardset, storage
from pal_ds.config import Config, ConfigError, to_yaml
from pal_ds.models import Objective, WeightsError, build_objective, read_weights
from pal_ds.shardset import Manifest
from pal_ds.training import checkpoint
from pal_ds.training import ranks as rank_room
from pal_ds.training.checkpoint import Snapshot
from pal_ds.training.cost import describe_cost, job_of
from pal_ds.training.engine import TrainEngine
from pal_ds.training.environment import describe_environment
from pal_ds.training.hardware import GPUS, find_gpu
from pal_ds.training.identity import IdentityError, check_identity, identity_of, warn_changes
from pal_ds.training.optimizer_state import write_optimizer_state
from pal_ds.training.plan import RunPlan, describe_plan, plan_run
from pal_ds.training.preemption import EXIT_PREEMPTED, PreemptionWatch
from pal_ds.training.ranks import Ranks
from pal_ds.training.runlog import STATUS, RunLog
from pal_ds.training.saver import Saver
from pal_ds.training.schedule import Schedule
from pal_ds.training.trainer import RunFailedError, Trainer
from pal_ds.training.watchdog import Watchdog

log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_CONFIG = 2
_USER_ERRORS = (
    ConfigError,
    IdentityError,
    shardset.ShardSetError,
    storage.StorageAccessError,
    storage.StorageNotFoundError,
    WeightsError,
)


def dry_run(
    config: Config, world_size: int, *, as_json: bool, gpu: str | None = None, price: float = 3.0
) -> int:
    """Print what a run would do; read nothing but the manifest.

    Args:
        config: the run.
        world_size: ranks to plan for.
        as_json: one JSON object instead of lines.
        gpu: accelerator for an estimate of time and cost; None leaves it out.
        price: money per GPU and hour.

    Raises:
        ConfigError: the config can't be run on that world, or the GPU is not known.
    """
    plan = plan_run(config, shardset.load_manifest(config.data.shards), world_size)
    figures = describe_plan(config, plan)
    if gpu is not None:
        found = find_gpu(gpu)
        if found is None:
            raise ConfigError("--gpu", gpu, f"not known; use one of {', '.join(GPUS)}")
        epoch = plan.epoch
        job = job_of(
            config,
            videos=epoch.clips,
            clip_bytes=epoch.clip_bytes,
            gpu=found,
            gpus=world_size,
            price=price,
            steps=plan.total_steps,
        )
        figures |= describe_cost(job)
    if as_json:
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    else:
        width = max(len(name) for name in figures)
        sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in figures.items())
    return 0


def pretrain(config: Config, *, restart: bool = False, overwrite: bool = False) -> int:
    """Run or resume pre-training in this process, one rank of the world.

    Args:
        config: the run.
        restart: begin anew; the run folder must be empty unless ``overwrite``.
        overwrite: with ``restart``, empty the folder first.

    Returns:
        Exit status: 0 done, 75 preempted, 2 the config, place or shard set is wrong, 1 failed.
    """
    preemption = PreemptionWatch()
    preemption.install()
    try:
        rank, world_size, _, _ = rank_room.environment_ranks()
        manifest = shardset.load_manifest(config.data.shards)
        plan = plan_run(config, manifest, world_size)
        if rank == 0:
            _prepare_folder(config, restart=restart, overwrite=overwrite)
    except _USER_ERRORS as error:
        return _refuse(error)
    except storage.StorageError as error:
        _refuse(error)
        return EXIT_FAILED
    # Collectives fail after the watchdog, which can name the rank that is missing.
    ranks = rank_room.start(config.safety.watchdog_seconds + 60.0)
    try:
        return _run(config, ranks, plan, manifest, preemption)
    except _USER_ERRORS as error:
        return _refuse(error)
    finally:
        rank_room.stop()


def _run(config: Config, ranks: Ranks, plan: RunPlan, manifest: Manifest, preemption: PreemptionWatch) -> int:
    identity = identity_of(config, manifest.digest)
    snapshot = _newest_snapshot(config, ranks)
    changes: list[str] = []
    if snapshot is not None:
        check_identity(snapshot.state["identity"], identity)
        changes = warn_changes(snapshot.state["config"], config) if ranks.is_first else []
    step = snapshot.step if snapshot is not None else 0
    schedule = Schedule(
        config.schedule,
        config.optimizer,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.epoch.steps_per_epoch,
    )
    engine = _build_engine(config, ranks, manifest, snapshot, schedule)
    runlog = RunLog(config.run.dir, config.log, step=step) if ranks.is_first else None
    saver = _make_saver(config, runlog) if ranks.is_first else None
    if runlog is not None:
        _describe_run(config, ranks, runlog, step, changes, resumed=snapshot is not None)
        if config.validation.wanted and not plan.has_validation:
            log.warning(
                "validation is off: the shard set has no val split (pal-shard build --val-fraction makes one)"
            )

    def on_stall(message: str) -> None:
        if runlog is not None:
            runlog.status("failed", step, error=message)

    watchdog = Watchdog(ranks, config.safety.watchdog_seconds, on_stall)
    trainer = Trainer(
        config,
        ranks,
        plan,
        engine,
        schedule,
        identity,
        preemption=preemption,
        runlog=runlog,
        saver=saver,
        watchdog=watchdog,
        step=step,
    )
    watchdog.start()
    status = EXIT_FAILED
    error = ""
    try:
        status = trainer.run()
    except RunFailedError as caught:
        error = str(caught)
        sys.stderr.write(f"error: run failed after step {trainer.step}: {error}\n")
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
        raise
    finally:
        watchdog.stop()
        _finish(config, runlog, saver, trainer.step, status, error)
    ranks.barrier()
    return status


def _build_engine(
    config: Config, ranks: Ranks, manifest: Manifest, snapshot: Snapshot | None, schedule: Schedule
) -> TrainEngine:
    """Build the model with the run's seed, put a snapshot's state in, and wrap it."""
    torch.manual_seed(config.run.seed)
    classes = len(manifest.labels) if manifest.labels is not None else None
    objective: Objective = build_objective(config.objective, config.model, config.queue, num_classes=classes)
    if snapshot is not None:
        objective.load_state_dict(snapshot.model, strict=True)
    elif config.model.weights:
        _warm_start(objective, config.model.weights)
    engine = TrainEngine(objective, config, ranks)
    if snapshot is not None:
        write_optimizer_state(engine, snapshot.optimizer)
        schedule.load_state_dict(snapshot.state["schedule"])
        engine.load_scaler_state(snapshot.state["scaler"])
    return engine


def _warm_start(objective: Objective, url: str) -> None:
    objective.warm_start(
        read_weights(storage.read_bytes(url, retry=storage.AT_START), source=url), source=url
    )


def _newest_snapshot(config: Config, ranks: Ranks) -> Snapshot | None:
    """Load the newest committed checkpoint, the same on every rank; None where there is none."""
    newest = -1
    if ranks.is_first:
        newest = max(checkpoint.committed_steps(config.run.dir, retry=storage.AT_START), default=-1)
    newest = int(ranks.share(str(newest)))
    return None if newest < 0 else checkpoint.load(config.run.dir, newest)


def _prepare_folder(config: Config, *, restart: bool, overwrite: bool) -> None:
    """Make the run folder, prove that it can be written, and apply ``--restart``."""
    url = config.run.dir
    if restart:
        names = storage.list_names(url, retry=storage.AT_START)
        if names and not overwrite:
            raise ConfigError(
                "run.dir",
                storage.redact(url),
                "--restart needs an empty folder; add --overwrite to delete this run",
            )
        if names:
            storage.remove(url, recursive=True, retry=storage.AT_START)
    storage.make_folder(url)
    storage.write_bytes(
        storage.join(url, STATUS), b'{"state": "running", "step": null}\n', retry=storage.AT_START
    )


def _describe_run(
    config: Config, ranks: Ranks, runlog: RunLog, step: int, changes: list[str], *, resumed: bool
) -> None:
    storage.write_bytes(storage.join(config.run.dir, "config.yaml"), to_yaml(config).encode())
    environment = describe_environment(ranks)
    storage.write_bytes(
        storage.join(config.run.dir, "environment.json"), (json.dumps(environment, indent=1) + "\n").encode()
    )
    details: Mapping[str, Any] = {"world_size": ranks.world_size, "changes": changes}
    runlog.event("resume" if resumed else "start", step, **details)
    runlog.status("running", step)
    log.info("%s at step %d, %d ranks", "resuming" if resumed else "starting", step, ranks.world_size)


def _make_saver(config: Config, runlog: RunLog | None) -> Saver:
    def on_commit(step: int, size: int, seconds: float) -> None:
        assert runlog is not None
        runlog.upload()
        log.info("checkpoint of step %d committed: %.1f MB in %.1f s", step, size / 1e6, seconds)

    return Saver(config.run.dir, config.checkpoint, on_commit)


def _finish(
    config: Config, runlog: RunLog | None, saver: Saver | None, step: int, status: int, error: str
) -> None:
    """Close the logs and leave the truth in ``STATUS.json``."""
    if saver is not None and status != EXIT_FAILED:
        saver.close()
    if runlog is None:
        return
    state = {0: "done", EXIT_PREEMPTED: "preempted"}.get(status, "failed")
    details = {"error": error} if error else {}
    if state != "preempted":
        runlog.event(state, step, **details)
    runlog.close()
    runlog.status(state, step, **details)


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return EXIT_CONFIG
