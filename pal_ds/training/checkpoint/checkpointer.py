"""What all ranks do together about a checkpoint: compare, take the state, and learn how saving went."""

from __future__ import annotations

import dataclasses
import gc
import logging
from collections.abc import Mapping
from typing import Any, cast

from pal_ds import storage
from pal_ds.config import Config, to_tree
from pal_ds.distributed.ranks import Ranks
from pal_ds.formats.backbone_file import BackboneSpec, backbone_bytes, fields_of_config, weights_digest
from pal_ds.formats.checkpoint import Snapshot
from pal_ds.training.checkpoint.background_saver import Saver
from pal_ds.training.checkpoint.optimizer_state import read_optimizer_state
from pal_ds.training.engine import TrainEngine
from pal_ds.training.environment import versions
from pal_ds.training.errors import RunFailedError
from pal_ds.training.lr_schedule import Schedule

log = logging.getLogger(__name__)

UNTRAINED = "untrained.safetensors"
_CONTROL_RETRY = storage.RetryPolicy(budget_seconds=10.0, patient_access=True)


@dataclasses.dataclass(frozen=True)
class Position:
    """Where training is between two steps: steps done, epoch of the latest, bad steps in a row up to it."""

    step: int
    epoch: int
    skipped_in_a_row: int


class Keeper:
    """Takes snapshots on all ranks and hands them to rank 0's saver.

    Args:
        config: the run.
        ranks: this process.
        engine: model and optimizer.
        schedule: the learning rate.
        constants: what every ``state.json`` holds besides: identity, lanes.
        saver: writes checkpoints; rank 0 only.
        step: the step that was loaded, which needs no saving.
    """

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        engine: TrainEngine,
        schedule: Schedule,
        constants: Mapping[str, Any],
        *,
        saver: Saver | None,
        step: int,
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._engine = engine
        self._schedule = schedule
        self._constants = constants
        self._saver = saver
        self._taken = step

    @property
    def patience_lost(self) -> Exception | None:
        """Why no checkpoint could be saved for too long, on the rank that saves; None while all is well."""
        return self._saver.out_of_patience if self._saver is not None else None

    def snapshot(self, position: Position) -> Snapshot:
        """Return the state after the latest step, on the CPU (collective: all ranks).

        Raises:
            RunFailedError: weights, buffers or queue differ between ranks.
        """
        different = self._ranks.same_everywhere(self._engine.fingerprint())
        if different:
            raise RunFailedError(
                f"weights or queue of ranks {different} differ from rank 0's: state is not trusted"
            )
        model = {
            name: tensor.detach().cpu().clone()
            for name, tensor in self._engine.objective.state_dict().items()
        }
        state = {
            **self._constants,
            "epoch": position.epoch,
            "skipped_in_a_row": position.skipped_in_a_row,
            "schedule": self._schedule.state_dict(),
            "scaler": self._engine.scaler_state(),
            "seed": self._config.run.seed,
            "config": to_tree(self._config),
            "versions": versions(),
            "world_size": self._ranks.world_size,
        }
        return Snapshot(position.step, model, read_optimizer_state(self._engine), state)

    def save(self, position: Position) -> None:
        """Take a snapshot and have it saved while training goes on."""
        snapshot = self.snapshot(position)
        if self._saver is not None:
            self._saver.submit(snapshot)
        self._taken = position.step
        gc.collect()

    def keep_untrained(self) -> None:
        """Write the backbone as it starts to ``untrained.safetensors``: the control of every figure of the run.

        A store that is away is a warning: nothing that a resume needs is in it.
        """
        if not self._ranks.is_first:
            return
        url = storage.join(self._config.run.dir, UNTRAINED)
        backbone = self._engine.objective.backbone
        tensors = {name: tensor.detach().cpu() for name, tensor in backbone.state_dict().items()}
        fields = fields_of_config(to_tree(self._config), url)
        dim = int(cast("int", backbone.feature_dim))
        spec = BackboneSpec(
            **fields, feature_dim=dim, digest=weights_digest(tensors), source=storage.redact(url)
        )
        try:
            storage.write_bytes(url, backbone_bytes(tensors, spec), retry=_CONTROL_RETRY)
        except (storage.StorageError, OSError) as error:
            log.warning("%s not written, figures will lack their control: %s", UNTRAINED, error)

    def finish(self, position: Position) -> None:
        """Save the latest step if it isn't, and wait for the commit; every rank learns of a failure.

        Raises:
            RunFailedError: it could not be saved; names the last committed step.
        """
        snapshot = self.snapshot(position) if self._taken != position.step else None
        self._taken = position.step
        error = ""
        if self._saver is not None:
            try:
                self._saver.finish(snapshot)
            except Exception as caught:
                last = self._saver.last_committed
                error = f"{type(caught).__name__}: {caught}; the last committed step is "
                error += "an earlier start's, if any" if last is None else str(last)
        texts = self._ranks.texts(error)
        if texts:
            raise RunFailedError(f"checkpoint not saved: {texts[0]}")
