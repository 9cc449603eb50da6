"""The training loop: what happens in an optimizer step, and between steps.

A step asks all ranks once whether to go on (a signal, a missing batch), runs its micro-steps, and asks once more
whether every rank's loss was finite before anything moves. Everything that must survive lies in the state between
two steps, so a run can stop after any step and go on from there, on another number of ranks too.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from typing import Any

import torch
from torch import Tensor

from pal_ds.config import Config, to_tree
from pal_ds.models import ObjectiveOutput
from pal_ds.training.checkpoint import Snapshot
from pal_ds.training.console import Console
from pal_ds.training.engine import StepResult, TrainEngine
from pal_ds.training.environment import versions
from pal_ds.training.feed import Feed, ValidationFeed
from pal_ds.training.meter import Meter
from pal_ds.training.optimizer_state import read_optimizer_state
from pal_ds.training.plan import RunPlan
from pal_ds.training.preemption import EXIT_PREEMPTED, PreemptionWatch
from pal_ds.training.ranks import Ranks
from pal_ds.training.runlog import RunLog
from pal_ds.training.saver import Saver
from pal_ds.training.schedule import Schedule
from pal_ds.training.validate import validate
from pal_ds.training.watchdog import Watchdog

log = logging.getLogger(__name__)

_RETRIES_WORTH_TELLING = 10


class RunFailedError(Exception):
    """The run can't go on; the message says why, and the last state is saved where that was possible."""


class Trainer:
    """One run from the loaded step to its end, a preemption, or a failure.

    Args:
        config: the run.
        ranks: this process.
        plan: the run's arithmetic.
        engine: the model and optimizer, holding the state of ``step``.
        schedule: the learning rate, holding the state of ``step``.
        identity: what a resume may not change, kept in every checkpoint.
        preemption: why to stop early.
        runlog: the log files; rank 0 only.
        saver: writes checkpoints; rank 0 only.
        watchdog: ends a stalled job.
        step: optimizer steps already done.
    """

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        plan: RunPlan,
        engine: TrainEngine,
        schedule: Schedule,
        identity: dict[str, Any],
        *,
        preemption: PreemptionWatch,
        runlog: RunLog | None,
        saver: Saver | None,
        watchdog: Watchdog,
        step: int,
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._plan = plan
        self._engine = engine
        self._schedule = schedule
        self._identity = identity
        self._preemption = preemption
        self._runlog = runlog
        self._saver = saver
        self._watchdog = watchdog
        self._feed = Feed(config, ranks, step=step)
        self._val_feed = ValidationFeed(config, ranks) if plan.has_validation else None
        self._meter = Meter(config.data.global_batch, self._feed)
        self._console = Console(plan.total_steps, step) if ranks.is_first else None
        self._skipped_in_a_row = 0
        self._retries_told = 0.0
        self._saved_step = step
        self.step = step

    @property
    def epoch(self) -> int:
        """Number of the epoch that the latest step belongs to, from 0."""
        return max(0, self.step - 1) // self._plan.epoch.steps_per_epoch

    def run(self) -> int:
        """Train; return the exit status: 0 done, 75 preempted.

        Raises:
            RunFailedError: a rank has no batch, too many steps were not finite, ranks have drifted apart, or
                checkpoints can't be saved.
        """
        gc.collect()
        gc.freeze()
        try:
            while self.step < self._plan.total_steps:
                reason = self._train_step()
                if reason is not None:
                    return self._leave_early(reason)
            self._save_and_wait()
            return 0
        finally:
            self._feed.close()
            if self._console is not None:
                self._console.close()

    def _train_step(self) -> str | None:
        """Run one optimizer step and what is due after it; return why to stop instead, if ranks agreed to."""
        started = time.monotonic()
        torch.manual_seed(_step_seed(self._config.run.seed, self.step, self._ranks.rank))
        rate = self._schedule.rate(self.step)
        self._engine.set_rate(rate)
        self._engine.begin_step()
        outputs: list[ObjectiveOutput] = []
        digests: list[Tensor] = []
        for micro_step in range(self._config.data.accumulation):
            self._watchdog.beat(f"micro-step {micro_step}", self.step)
            micro, error = self._feed.next()
            stopping = self._preemption.reason is not None and micro_step == 0
            stop, fault = self._ranks.any(stopping, error is not None)
            if fault:
                self._engine.abandon_step()
                self._fail(self._texts(f"{type(error).__name__}: {error}" if error else ""))
            if stop:
                self._engine.abandon_step()
                return "; ".join(sorted(set(self._texts(self._preemption.reason or ""))))
            assert micro is not None
            outputs.append(self._engine.micro_step(self._feed.views(micro)))
            digests.append(micro.digests)
        self._watchdog.beat("update", self.step)
        result = self._engine.finish_step()
        self.step += 1
        self._meter.add_step(time.monotonic() - started)
        self._after_step(result, rate, outputs, digests)
        return None

    def _after_step(
        self, result: StepResult, rate: float, outputs: list[ObjectiveOutput], digests: list[Tensor]
    ) -> None:
        config, done = self._config, self.step >= self._plan.total_steps
        self._note_skips(result)
        if self.step % config.log.every_steps == 0 or done:
            self._log_row(result, rate, outputs, digests)
        if self._val_feed is not None and self._validation_due(done):
            self._validate()
        if self.step % config.checkpoint.every_steps == 0 and not done:
            self._save()
        self._check_saver()

    def _log_row(
        self, result: StepResult, rate: float, outputs: list[ObjectiveOutput], digests: list[Tensor]
    ) -> None:
        names = sorted(outputs[0].metrics)
        columns = [torch.stack([output.loss.detach().float() for output in outputs]).mean()]
        columns += [
            torch.stack([output.metrics[name].float() for output in outputs]).mean() for name in names
        ]
        meter = self._meter.read()
        local = torch.cat([torch.stack(columns), torch.tensor([meter.data_wait], device=self._ranks.device)])
        loss, *values, data_wait = self._ranks.mean(local).tolist()
        batch_hash = self._batch_hash(digests)
        loader = self._loader_row()
        replaced = self._feed.take_replaced()
        (any_replaced,) = self._ranks.any(bool(replaced))
        replaced = self._ranks.collect(replaced) if any_replaced else []
        if not self._ranks.is_first:
            return
        assert self._runlog is not None
        row = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": loss if result.applied or result.overflow else None,
            "lr": rate,
            "batch_hash": batch_hash,
            "videos_per_second": meter.videos_per_second,
            "data_wait": data_wait,
            "grad_norm": result.grad_norm,
            "queue_fill": self._engine.objective.queue_fill,
            **dict(zip(names, values, strict=True)),
            **loader,
        }
        if self._engine.scaler is not None:
            row["loss_scale"] = float(self._engine.scaler.get_scale())
        self._runlog.metrics(row)
        for record in replaced:
            self._runlog.event("replaced", record.get("step", self.step), **_without(record, "step"))
        if loader["loader_retries"] - self._retries_told >= _RETRIES_WORTH_TELLING:
            self._runlog.event("retries", self.step, since_start=loader["loader_retries"])
            self._retries_told = loader["loader_retries"]
        assert self._console is not None
        self._console.row(row)

    def _loader_row(self) -> dict[str, float]:
        """Loader counters since the start of this process, summed over ranks."""
        local = self._meter.loader_counters()
        values = torch.tensor(list(local.values()), dtype=torch.float64, device=self._ranks.device)
        total = dict(zip(local, self._ranks.total(values).tolist(), strict=True))
        decoded = 1000.0 * total.pop("loader_decode_seconds") / max(1.0, total.pop("loader_clips"))
        return {**{name: int(value) for name, value in total.items()}, "loader_decode_ms": decoded}

    def _batch_hash(self, digests: list[Tensor]) -> str:
        """Digest of the global batch's ordered keys and draws: equal for any number of ranks and workers."""
        local_agb = torch.stack([digest.to(self._ranks.device) for digest in digests])
        everywhere = self._ranks.gather(local_agb).transpose(0, 1)
        return hashlib.blake2b(bytes(everywhere.flatten().cpu().tolist()), digest_size=8).hexdigest()

    def _note_skips(self, result: StepResult) -> None:
        """Count steps that were left out; stop after too many bad ones in a row."""
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if result.bad else 0
        if result.applied:
            return
        kind = "overflow" if result.overflow else "skipped"
        if self._runlog is not None:
            self._runlog.event(kind, self.step, in_a_row=self._skipped_in_a_row)
        if result.bad:
            log.warning("step %d left out: a loss or gradient was not finite", self.step)
        if self._skipped_in_a_row >= self._config.safety.max_skipped_steps:
            self._fail([f"{self._skipped_in_a_row} steps in a row were not finite"])

    def _validation_due(self, done: bool) -> bool:
        config, per_epoch = self._config.validation, self._plan.epoch.steps_per_epoch
        if config.every_steps:
            return done or self.step % config.every_steps == 0
        epochs, rest = divmod(self.step, per_epoch)
        return done or (rest == 0 and epochs % config.every_epochs == 0)

    def _validate(self) -> None:
        assert self._val_feed is not None
        started = time.monotonic()
        result = validate(
            self._engine, self._val_feed, self._ranks, lambda: self._watchdog.beat("validation", self.step)
        )
        cut = self._schedule.observe(result.loss)
        self._meter.reset()
        if self._runlog is not None and self._console is not None:
            row = {
                "step": self.step,
                "epoch": self.epoch,
                "val_loss": result.loss,
                "val_samples": result.samples,
            }
            row |= {f"val_{name}": value for name, value in result.metrics.items()}
            row["val_seconds"] = time.monotonic() - started
            self._runlog.metrics(row)
            self._console.validation(row)
            if cut:
                self._runlog.event("lr_cut", self.step, lr=self._schedule.rate(self.step))

    def snapshot(self) -> Snapshot:
        """Return the state after the latest step, on the CPU (collective: all ranks)."""
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
            "epoch": self.epoch,
            "schedule": self._schedule.state_dict(),
            "scaler": self._engine.scaler_state(),
            "skipped_in_a_row": self._skipped_in_a_row,
            "seed": self._config.run.seed,
            "lanes": self._plan.epoch.lanes,
            "identity": self._identity,
            "config": to_tree(self._config),
            "versions": versions(),
            "world_size": self._ranks.world_size,
        }
        return Snapshot(self.step, model, read_optimizer_state(self._engine), state)

    def _save(self) -> None:
        self._watchdog.beat("checkpoint", self.step)
        snapshot = self.snapshot()
        if self._saver is not None:
            self._saver.submit(snapshot)
        self._saved_step = self.step
        if self._runlog is not None:
            self._runlog.status("running", self.step)
        gc.collect()

    def _save_and_wait(self) -> None:
        """Save the latest step if it isn't, and wait for the commit; every rank learns of a failure."""
        error = ""
        self._watchdog.beat("checkpoint", self.step)
        try:
            if self._saved_step != self.step:
                snapshot = self.snapshot()
                if self._saver is not None:
                    self._saver.save_now(snapshot)
                self._saved_step = self.step
            elif self._saver is not None:
                self._saver.wait()
        except RunFailedError:
            raise
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        texts = self._texts(error)
        if texts:
            last = self._saver.last_committed if self._saver is not None else None
            raise RunFailedError(f"checkpoint not saved: {texts[0]}; the last committed step is {last}")

    def _check_saver(self) -> None:
        patience = self._saver.out_of_patience if self._saver is not None else None
        if self._config.checkpoint.asynchronous and self.step % self._config.checkpoint.every_steps:
            return
        (lost,) = self._ranks.any(patience is not None)
        if lost:
            texts = self._texts(f"{patience}" if patience else "")
            raise RunFailedError(f"no checkpoint could be saved for too long: {texts[0]}")

    def _leave_early(self, reason: str) -> int:
        log.warning("stopping after step %d: %s", self.step, reason)
        self._save_and_wait()
        if self._runlog is not None:
            self._runlog.event("preempted", self.step, reason=reason)
        return EXIT_PREEMPTED

    def _fail(self, texts: list[str]) -> None:
        """Save what can be saved, then end the run with the reasons of all ranks."""
        text = "; ".join(dict.fromkeys(texts)) or "unknown error"
        try:
            self._save_and_wait()
        except RunFailedError as error:
            text = f"{text} ({error})"
        raise RunFailedError(text)

    def _texts(self, text: str) -> list[str]:
        """Return the non-empty texts of all ranks, cut to what one small gather carries."""
        payload = torch.zeros(400, dtype=torch.uint8)
        encoded = text.encode()[:400]
        payload[: len(encoded)] = torch.frombuffer(bytearray(encoded or b"\0"), dtype=torch.uint8)[
            : len(encoded)
        ]
        rows = self._ranks.gather(payload.to(self._ranks.device)).cpu().tolist()
        decoded = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]
        return [found for found in decoded if found]


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's global generator in a step (dropout): a resume draws what the first run drew."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in names}
