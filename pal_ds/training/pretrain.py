"""A pre-training run from its config to its exit status: starts, resumes, and ends well or clearly."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from pal_ds import storage
from pal_ds.config import Config, ConfigError, to_tree, to_yaml
from pal_ds.distributed import ranks as process_group
from pal_ds.distributed.arithmetic import set_arithmetic
from pal_ds.distributed.device import choose_device
from pal_ds.distributed.launcher import meeting_point, read_place
from pal_ds.distributed.preemption import PreemptionWatch
from pal_ds.distributed.ranks import Ranks
from pal_ds.distributed.watchdog import Watchdog
from pal_ds.formats import exit_status
from pal_ds.formats.checkpoint import Snapshot
from pal_ds.formats.shardset import Manifest
from pal_ds.models import Objective, build_objective
from pal_ds.planning.plan_lines import plan_lines
from pal_ds.planning.run_plan import RunPlan, plan_run
from pal_ds.training import startup
from pal_ds.training.checkpoint.background_saver import Saver
from pal_ds.training.checkpoint.checkpointer import Keeper
from pal_ds.training.checkpoint.optimizer_state import write_optimizer_state
from pal_ds.training.device_feed import Feed, TrainFeed, ValidationFeed
from pal_ds.training.engine import TrainEngine
from pal_ds.training.environment import describe_environment
from pal_ds.training.errors import RunFailedError
from pal_ds.training.logging.run_log import RunLog
from pal_ds.training.logging.step_log import StepLog
from pal_ds.training.lr_schedule import Schedule
from pal_ds.training.out_of_memory import explain_shortage, warn_of_shortage
from pal_ds.training.profiler import StepProfiler
from pal_ds.training.run_identity import check_identity, identity_of, warn_changes
from pal_ds.training.set_generations import Generations, look_again
from pal_ds.training.shared_selection import share_selections
from pal_ds.training.source_identity import digests_of, identity_of_sources
from pal_ds.training.startup import EXIT_CONFIG, EXIT_FAILED, StartError
from pal_ds.training.trainer import Parts, Trainer
from pal_ds.training.warm_start import warm_start

log = logging.getLogger(__name__)


class FeedFactory(Protocol):
    """Makes a rank's source of micro-batches."""

    def __call__(self, config: Config, ranks: Ranks, *, step: int) -> TrainFeed:
        """Return a feed that starts at an optimizer step."""


def pretrain(
    config: Config,
    *,
    restart: bool = False,
    overwrite: bool = False,
    profile_steps: int = 0,
    feed_of: FeedFactory = Feed,
) -> int:
    """Run or resume pre-training in this process, one rank of the world.

    Args:
        config: the run.
        restart: begin anew; the run folder must be empty unless ``overwrite``.
        overwrite: with ``restart``, empty the folder first.
        profile_steps: record so many optimizer steps as a Chrome trace; 0 is off.
        feed_of: where batches come from: the shard set, or what a benchmark makes up.

    Returns:
        Exit status: 0 done, 75 preempted, 2 the config, place or shard set is wrong, 1 failed.
    """
    preemption = PreemptionWatch()
    preemption.install()
    try:
        place = read_place()
    except ConfigError as error:
        return startup.refuse(StartError(str(error), EXIT_CONFIG), 0)

    rank, world_size = place.rank, place.world_size

    def prepare() -> None:
        if rank == 0:
            startup.prepare_folder(config, restart=restart, overwrite=overwrite)

    unready: StartError | None = None
    device_type: str | None = None
    try:
        device_type = startup.attempt(lambda: choose_device(config.run.device, place.local_rank))
        set_arithmetic(config.run)
        # Workers are counted by it, and not every launcher sets it.
        os.environ["LOCAL_WORLD_SIZE"] = str(place.local_world_size)
        if device_type == "cpu":
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, pin_memory=False))
        found = startup.attempt(lambda: startup.look(config, world_size))
        if world_size == 1:
            startup.attempt(prepare)
    except StartError as error:
        if world_size == 1 or startup.same_everywhere(error):
            return startup.refuse(error, rank)
        unready = error
    try:
        meeting_point(place)
    except ConfigError as error:
        return startup.refuse(StartError(str(error), EXIT_CONFIG), rank)
    # Collectives fail after the watchdog, which can name the rank that is missing.
    ranks = process_group.start(config.safety.watchdog_seconds + 60.0, device_type)
    try:
        startup.together(ranks, lambda: startup.again(unready))
        if world_size > 1:
            startup.together(ranks, prepare)
        manifests, plan = found
        return _run(config, ranks, plan, manifests, preemption, profile_steps, feed_of)
    except StartError as error:
        return startup.refuse(error, rank)
    finally:
        process_group.stop()


def _run(
    config: Config,
    ranks: Ranks,
    early_plan: RunPlan | None,
    newest: tuple[Manifest, ...],
    preemption: PreemptionWatch,
    profile_steps: int,
    feed_of: FeedFactory,
) -> int:
    snapshot = startup.load_newest(config, ranks)
    # Somebody may have appended while the ranks looked: all take the first one's generations, or the run's own.
    digests = ranks.share(" ".join(manifest.digest for manifest in newest)).split()
    if snapshot is not None:
        digests = digests_of(snapshot.state["identity"])
    manifests = startup.together(
        ranks, lambda: look_again(config, newest, digests, resumed=snapshot is not None)
    )
    plan = _plan(config, ranks, manifests, early_plan if manifests == newest else None)
    identity = startup.together(
        ranks, lambda: identity_of(config, manifests[0].digest, identity_of_sources(plan.sources))
    )
    step, skipped = 0, 0
    if snapshot is not None:
        saved = snapshot.state
        startup.together(ranks, lambda: check_identity(saved["identity"], identity))
        step, skipped = snapshot.step, int(saved["skipped_in_a_row"])
    schedule = Schedule(
        config.schedule,
        config.optimizer,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.epoch.steps_per_epoch,
    )
    warn_of_shortage(config, ranks, plan)
    engine = _build_engine(config, ranks, plan, snapshot, schedule)
    feed = startup.together(ranks, lambda: feed_of(config, ranks, step=step))
    val_feed = startup.together(ranks, lambda: ValidationFeed(config, ranks) if plan.has_validation else None)
    hosts = ranks.texts(socket.gethostname())
    generations = Generations(
        mine=tuple(manifest.generation for manifest in manifests),
        newest=tuple(manifest.generation for manifest in newest),
    )
    runlog = startup.together(ranks, lambda: _open_log(config, ranks, plan, snapshot, hosts, generations))
    saver = _make_saver(config, runlog) if runlog is not None else None

    def on_stall(message: str) -> None:
        if runlog is not None:
            runlog.status("failed", trainer.step, error=message)

    parts = Parts(
        engine=engine,
        schedule=schedule,
        feed=feed,
        val_feed=val_feed,
        keeper=Keeper(
            config,
            ranks,
            engine,
            schedule,
            {"identity": identity, "lanes": plan.epoch.lanes},
            saver=saver,
            step=step,
        ),
        steplog=StepLog(config, ranks, plan, engine, feed, runlog=runlog, step=step, hosts=hosts),
        preemption=preemption,
        watchdog=Watchdog(ranks, config.safety.watchdog_seconds, on_stall),
        profiler=StepProfiler(config.run.dir, ranks, steps=profile_steps, start=step)
        if profile_steps
        else None,
    )
    if skipped >= config.safety.max_skipped_steps:
        skipped = 0  # that start ended because of them; this one is to try again
    trainer = Trainer(config, ranks, plan, parts, step=step, skipped_in_a_row=skipped)
    return _train(config, trainer, parts, ranks, runlog, saver)


def _plan(config: Config, ranks: Ranks, manifests: tuple[Manifest, ...], plan: RunPlan | None) -> RunPlan:
    """Return the run's plan (collective); one that was made before is right where clips need not be chosen."""
    if any(not source.where.is_everything for source in config.data.sources):
        share_selections(config, ranks, manifests)
    return startup.together(ranks, lambda: plan or plan_run(config, manifests, ranks.world_size))


def _train(
    config: Config, trainer: Trainer, parts: Parts, ranks: Ranks, runlog: RunLog | None, saver: Saver | None
) -> int:
    parts.watchdog.start()
    status, error, alone = EXIT_FAILED, "", False
    try:
        status = trainer.run()
    except RunFailedError as caught:
        error = str(caught)
        sys.stderr.write(f"error: run failed after step {trainer.step}: {error}\n")
    except torch.OutOfMemoryError as caught:
        # Other ranks may have had memory enough: they are not waited for, and see this one leave.
        error, alone = explain_shortage(config, ranks, caught), True
        sys.stderr.write(f"error: run failed after step {trainer.step}: {error}\n")
    except Exception as caught:
        error = "; ".join(filter(None, (f"{type(caught).__name__}: {caught}", parts.watchdog.silent_ranks())))
        sys.stderr.write(f"error: run failed after step {trainer.step}: {' '.join(error.split())}\n")
        raise
    finally:
        parts.watchdog.stop()
        if parts.profiler is not None:
            parts.profiler.close()
        _close(runlog, saver, trainer.step, status, error)
    if not alone:
        ranks.barrier()
    return status


def _build_engine(
    config: Config, ranks: Ranks, plan: RunPlan, snapshot: Snapshot | None, schedule: Schedule
) -> TrainEngine:
    """Build the model with the run's seed, put a snapshot's state in, and wrap it."""

    def build() -> Objective:
        objective = build_objective(config.objective, config.model, config.queue, labels=plan.labels)
        objective.read_tables(lambda url: storage.read_bytes(url, retry=storage.AT_START))
        if snapshot is not None:
            objective.load_state_dict(snapshot.model, strict=True)
        else:
            warm_start(objective, config)
        return objective

    torch.manual_seed(config.run.seed)
    engine = TrainEngine(startup.together(ranks, build), config, ranks)
    if snapshot is not None:
        write_optimizer_state(engine, snapshot.optimizer)
        schedule.load_state_dict(snapshot.state["schedule"])
        engine.load_scaler_state(snapshot.state["scaler"])
    return engine


def _open_log(
    config: Config,
    ranks: Ranks,
    plan: RunPlan,
    snapshot: Snapshot | None,
    hosts: Sequence[str],
    generations: Generations,
) -> RunLog | None:
    """Open the logs and say in them what this start is (rank 0)."""
    if not ranks.is_first:
        return None
    step = snapshot.step if snapshot is not None else 0
    changes = warn_changes(snapshot.state["config"], config) if snapshot is not None else []
    runlog = RunLog(config.run.dir, config.log, step=step, settings=to_tree(config))
    storage.write_bytes(storage.join(config.run.dir, "config.yaml"), to_yaml(config).encode())
    environment = describe_environment(ranks, hosts)
    storage.write_bytes(
        storage.join(config.run.dir, "environment.json"), (json.dumps(environment, indent=1) + "\n").encode()
    )
    details: Mapping[str, Any] = {
        "world_size": ranks.world_size,
        "total_steps": plan.total_steps,
        "changes": changes,
        **generations.details(),
    }
    for note in generations.notes(config):
        log.info("%s", note)
    runlog.event("resume" if snapshot is not None else "start", step, **details)
    runlog.status("running", step)
    sys.stderr.writelines(f"{line}\n" for line in plan_lines(config, plan, step=step))
    if config.validation.wanted and not plan.has_validation:
        log.warning(
            "validation is off: the shard set has no val split (pal-shard build --val-fraction makes one), or where "
            "or val_split leaves none of it"
        )
    return runlog


def _make_saver(config: Config, runlog: RunLog) -> Saver:
    def on_commit(step: int, size: int, seconds: float) -> None:
        runlog.upload()
        log.info("checkpoint of step %d committed: %.1f MB in %.1f s", step, size / 1e6, seconds)

    return Saver(config.run.dir, config.checkpoint, on_commit)


def _close(runlog: RunLog | None, saver: Saver | None, step: int, status: int, error: str) -> None:
    """End what is under way, close the logs and leave the truth in ``STATUS.json``."""
    if saver is not None:
        try:
            saver.finish()
        except (storage.StorageError, OSError) as caught:
            log.warning("the latest checkpoint was not saved: %s", caught)
    if runlog is None:
        return
    state = {0: "done", exit_status.PREEMPTED: "preempted"}.get(status, "failed")
    details = {"error": error} if error else {}
    if state != "preempted":
        runlog.event(state, step, **details)
    runlog.close()
    runlog.status(state, step, **details)
