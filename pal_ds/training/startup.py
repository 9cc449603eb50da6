"""How ranks start together: where one of them fails, all of them exit with its status and one line.

A rank that ended by itself while others waited for it at the rendezvous would cost them their timeout; under ``srun``
nobody would end them.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from pal_ds import storage
from pal_ds.config import Config, ConfigError
from pal_ds.data.sources import load_manifests
from pal_ds.distributed.ranks import Ranks
from pal_ds.formats import checkpoint, exit_status, shardset
from pal_ds.formats.checkpoint import CheckpointError, Snapshot
from pal_ds.formats.clip_selection import forget_conditions
from pal_ds.formats.shardset import Manifest
from pal_ds.models import WeightsError
from pal_ds.planning.run_plan import RunPlan, check_fit, plan_run
from pal_ds.training.logging.mlflow_log import check_mlflow
from pal_ds.training.logging.run_log import STATUS
from pal_ds.training.logging.webhook import webhook_url
from pal_ds.training.run_identity import IdentityError

EXIT_FAILED = exit_status.FAILED
EXIT_CONFIG = exit_status.REFUSED
_USER_ERRORS = (
    ConfigError,
    IdentityError,
    shardset.ShardSetError,
    storage.StorageAccessError,
    storage.StorageNotFoundError,
    WeightsError,
)
_OTHER_ERRORS = (storage.StorageError, CheckpointError, OSError)

T = TypeVar("T")
log = logging.getLogger(__name__)


class StartError(Exception):
    """The run does not start, on any rank: one line, and the exit status (2: mend the settings; 1: it failed)."""

    def __init__(self, text: str, status: int) -> None:
        self.status = status
        super().__init__(" ".join(text.split()))


def attempt(action: Callable[[], T]) -> T:
    """Run a part of the start; whatever a person can mend becomes a :class:`StartError`."""
    try:
        return action()
    except StartError:
        raise
    except _USER_ERRORS as error:
        raise StartError(str(error), EXIT_CONFIG) from error
    except _OTHER_ERRORS as error:
        raise StartError(str(error) or type(error).__name__, EXIT_FAILED) from error


def same_everywhere(error: StartError) -> bool:
    """Tell whether every rank finds the same without being told: a setting that fits no shard set or world."""
    return isinstance(error.__cause__, ConfigError)


def again(error: StartError | None) -> None:
    """Raise what an earlier part of the start left, if anything."""
    if error is not None:
        raise error


def together(ranks: Ranks, action: Callable[[], T]) -> T:
    """Run a part of the start on every rank (collective); where one can't, no rank goes on.

    Raises:
        StartError: on all ranks alike: what the ranks said, and 2 where any of them said so, else 1.
    """
    results: list[T] = []
    said = ""
    try:
        results.append(attempt(action))
    except StartError as error:
        said = f"{error.status} {error}"
    texts = ranks.texts(said)
    if texts:
        status = EXIT_CONFIG if any(text.startswith(str(EXIT_CONFIG)) for text in texts) else EXIT_FAILED
        raise StartError("; ".join(dict.fromkeys(text.split(" ", 1)[1] for text in texts)), status)
    return results[0]


def refuse(error: StartError, rank: int) -> int:
    """Tell why nothing starts, once for all ranks, and return the exit status."""
    if rank == 0:
        sys.stderr.write(f"error: {error}\n")
    return error.status


def look(config: Config, world_size: int) -> tuple[tuple[Manifest, ...], RunPlan | None]:
    """Read the newest generation of each shard set and plan the run; this process reads no other now.

    Where clips have yet to be chosen there is no plan.
    """
    forget_conditions()
    for source in config.data.sources:
        shardset.unpin(source.url)
    manifests = load_manifests(config.data.sources)
    for source, manifest in zip(config.data.sources, manifests, strict=True):
        shardset.pin(source.url, manifest.digest)
    try:
        check_fit(config, manifests, world_size)
        if any(not source.where.is_everything for source in config.data.sources):
            return manifests, None
        return manifests, plan_run(config, manifests, world_size)
    except ConfigError:
        # A run that began with an older generation may fit that one: it is planned when the run is known.
        if all(manifest.generation == 1 for manifest in manifests):
            raise
        return manifests, None


def prepare_folder(config: Config, *, restart: bool, overwrite: bool) -> None:
    """Make the run folder, prove that it can be written, and apply ``--restart`` (rank 0).

    Raises:
        ConfigError: the folder is not empty, or an option needs a package or a variable that is missing.
        StorageError: it can't be written.
    """
    url = config.run.dir
    if config.log.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError("log.wandb", config.log.wandb, "needs a package: pip install wandb")
    check_mlflow(config.log.mlflow)
    webhook_url(config.log.webhook)
    if config.log.webhook and not config.log.webhook.startswith("env:"):
        log.warning(
            "log.webhook is kept in config.yaml and checkpoints; if it is secret, use log.webhook=env:NAME"
        )
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
    # What an earlier start said stays true until this one has been let in.
    status = storage.join(url, STATUS)
    try:
        said = storage.read_bytes(status, retry=storage.AT_START)
    except storage.StorageNotFoundError:
        said = b'{"state": "running", "step": null}\n'
    storage.write_bytes(status, said, retry=storage.AT_START)


def newest_step(config: Config) -> int:
    """Return the step of the newest committed checkpoint; -1 where there is none."""
    return max(checkpoint.committed_steps(config.run.dir, retry=storage.AT_START), default=-1)


def load_newest(config: Config, ranks: Ranks) -> Snapshot | None:
    """Load the newest committed checkpoint, the same on every rank (collective); None where there is none."""
    found = together(ranks, lambda: newest_step(config) if ranks.is_first else -1)
    newest = int(ranks.share(str(found)))
    if newest < 0:
        return None
    return together(ranks, lambda: checkpoint.load(config.run.dir, newest))
