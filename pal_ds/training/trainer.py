"""The training loop: what happens in an optimizer step, and between steps.

A step asks all ranks once whether to go on (a signal, a missing batch, saves that keep failing), runs its
micro-steps, and lets the devices agree whether every rank's loss was finite before anything moves. The host reads
that verdict a step later, unless something needs it at once, so that no step waits for its device. Everything that
must survive lies in the state between two steps, so a run can stop after any step and go on from there, on another
number of ranks too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import logging
import time
from collections import deque
from typing import Any, NoReturn

import torch
from torch import Tensor

from pal_ds.config import Config
from pal_ds.distributed.preemption import PreemptionWatch
from pal_ds.distributed.ranks import Ranks
from pal_ds.distributed.step_clock import CLOCK
from pal_ds.distributed.watchdog import Watchdog
from pal_ds.formats import exit_status
from pal_ds.models import ObjectiveOutput, ViewBatch
from pal_ds.planning.run_plan import RunPlan
from pal_ds.training.checkpoint.checkpointer import Keeper, Position
from pal_ds.training.device_feed import TrainFeed, ValidationFeed
from pal_ds.training.engine import TrainEngine
from pal_ds.training.errors import RunFailedError
from pal_ds.training.label_probe import LabelProbe
from pal_ds.training.logging.step_log import StepLog, StepRecord
from pal_ds.training.lr_schedule import Schedule
from pal_ds.training.profiler import StepProfiler
from pal_ds.training.step_result import StepResult, Verdict
from pal_ds.training.thumbnail_probe import ThumbnailProbe
from pal_ds.training.validation import validate
from pal_ds.training.validation_times import ValidationTimes

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What a trainer works with; all of it holds the state of the step that training starts at.

    Attributes:
        engine: model and optimizer.
        schedule: the learning rate.
        feed: this rank's batches.
        val_feed: the validation batches; None where there is no validation.
        keeper: checkpoints.
        steplog: rows, events, console.
        preemption: why to stop early.
        watchdog: ends a stalled job.
        profiler: records some steps; None where nobody asked.
    """

    engine: TrainEngine
    schedule: Schedule
    feed: TrainFeed
    val_feed: ValidationFeed | None
    keeper: Keeper
    steplog: StepLog
    preemption: PreemptionWatch
    watchdog: Watchdog
    profiler: StepProfiler | None = None


class Trainer:
    """One run from the loaded step to its end, a preemption, or a failure.

    Args:
        config: the run.
        ranks: this process.
        plan: the run's arithmetic.
        parts: what to work with.
        step: optimizer steps already done.
        skipped_in_a_row: bad steps just before it.
    """

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        plan: RunPlan,
        parts: Parts,
        *,
        step: int,
        skipped_in_a_row: int = 0,
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._plan = plan
        self._parts = parts
        self._skipped_in_a_row = skipped_in_a_row
        self._validation_times = ValidationTimes(config.validation, plan.epoch.steps_per_epoch)
        self._held: Any | None = None
        self._ahead: tuple[Any | None, Exception | None] | None = None
        self._verdicts: deque[tuple[int, Verdict]] = deque()
        self._latest: ViewBatch | None = None
        self.step = step

    @property
    def epoch(self) -> int:
        """Number of the epoch that the latest step belongs to, from 0."""
        return max(0, self.step - 1) // self._plan.epoch.steps_per_epoch

    @property
    def position(self) -> Position:
        """Where training is, for a checkpoint."""
        return Position(self.step, self.epoch, self._skipped_in_a_row)

    def run(self) -> int:
        """Train; return the exit status: 0 done, 75 preempted.

        Raises:
            RunFailedError: a rank has no batch, too many steps were not finite, ranks have drifted apart, or
                checkpoints can't be saved.
        """
        gc.collect()
        gc.freeze()
        with contextlib.closing(self._parts.feed), contextlib.closing(self._parts.steplog):
            reason = self._look_untrained() if self.step == 0 else None
            if reason is not None:
                return self._leave_early(reason)
            while self.step < self._plan.total_steps:
                reason = self._train_step()
                if reason is not None:
                    return self._leave_early(reason)
                if self._parts.profiler is not None:
                    self._parts.profiler.step_done(self.step)
            self._finish_saving()
            return 0

    def _look_untrained(self) -> str | None:
        """Keep the network as it starts, and validate it; return why to stop instead, if ranks agreed to.

        Every later figure stands beside these. The first micro-batch, which the first step then trains on, gives
        the BatchNorm statistics.
        """
        beat, engine = self._parts.watchdog.beat, self._parts.engine
        beat("the wait for a batch", self.step)
        micro, error = self._parts.feed.next()
        beat("the agreement to go on", self.step)
        stop = self._agree(error, first=True)
        if stop is not None:
            return stop
        beat("the statistics of the untrained network", self.step)
        engine.calibrate(self._parts.feed.views(micro))
        self._held = micro
        self._parts.keeper.keep_untrained()
        if self._parts.val_feed is not None:
            self._validate(self._parts.val_feed)
        return None

    def _next_micro(self) -> tuple[Any | None, Exception | None]:
        held, self._held = self._held, None
        ahead, self._ahead = self._ahead, None
        if held is not None:
            return held, None
        return ahead if ahead is not None else self._parts.feed.next()

    def _fetch_ahead(self, micro_step: int) -> None:
        """Have the next micro-batch copied to the device while it computes, unless training ends first."""
        last = micro_step + 1 == self._config.data.accumulation
        if not (last and self.step + 1 >= self._plan.total_steps):
            self._ahead = self._parts.feed.next()

    def _train_step(self) -> str | None:
        """Run one optimizer step and what is due after it; return why to stop instead, if ranks agreed to."""
        started = time.monotonic()
        if self._logs(self.step + 1):
            CLOCK.begin()
        engine, feed, beat = self._parts.engine, self._parts.feed, self._parts.watchdog.beat
        torch.manual_seed(_step_seed(self._config.run.seed, self.step, self._ranks.rank))
        rate = self._parts.schedule.rate(self.step)
        engine.set_rate(rate)
        engine.begin_step()
        outputs: list[ObjectiveOutput] = []
        digests: list[Tensor] = []
        for micro_step in range(self._config.data.accumulation):
            beat("the wait for a batch", self.step)
            micro, error = self._next_micro()
            beat("the agreement to go on", self.step)
            stop = self._agree(error, first=micro_step == 0)
            if stop is not None:
                engine.abandon_step()
                return stop
            assert micro is not None
            CLOCK.agreed(self._ranks.device)
            beat(f"micro-step {micro_step}", self.step)
            views = feed.views(micro)
            outputs.append(engine.micro_step(views))
            digests.append(micro.digests)
            beat("the wait for a batch", self.step)
            self._fetch_ahead(micro_step)
        if self._config.validation.batch_statistics:
            self._latest = views
        beat("the update", self.step)
        verdict = engine.finish_step()
        CLOCK.end()
        self.step += 1
        self._verdicts.append((self.step, verdict))
        self._parts.steplog.add_time(time.monotonic() - started)
        self._after_step(rate, outputs, digests)
        return None

    def _agree(self, error: Exception | None, *, first: bool) -> str | None:
        """Ask all ranks whether to go on; return why to stop where a signal says so.

        Raises:
            RunFailedError: a rank has no batch, or checkpoints can't be saved.
        """
        reason = self._parts.preemption.reason
        lost = self._parts.keeper.patience_lost
        stop, fault, unsaved = self._ranks.any(
            reason is not None and first, error is not None, lost is not None
        )
        if fault:
            self._parts.engine.abandon_step()
            self._fail(self._ranks.texts(f"{type(error).__name__}: {error}" if error else ""))
        if unsaved:
            self._parts.engine.abandon_step()
            texts = self._ranks.texts(f"no checkpoint could be saved for too long: {lost}" if lost else "")
            self._fail(texts)
        if stop:
            return "; ".join(sorted(set(self._ranks.texts(reason or ""))))
        return None

    def _after_step(self, rate: float, outputs: list[ObjectiveOutput], digests: list[Tensor]) -> None:
        config, done = self._config, self.step >= self._plan.total_steps
        logged = self._logs(self.step)
        saved = self.step % config.checkpoint.every_steps == 0 and not done
        validated = self._parts.val_feed is not None and self._validation_times.due(self.step, last=done)
        # The device has yet to come to this step's end; where nobody needs to know it now, the host goes on.
        later = 0 if logged or saved or validated else 1
        result = self._read_verdicts(later)
        if logged and result is not None:
            self._parts.watchdog.beat("the log row", self.step)
            self._parts.steplog.step(
                StepRecord(
                    step=self.step,
                    epoch=self.epoch,
                    rate=rate,
                    result=result,
                    outputs=outputs,
                    digests=digests,
                )
            )
        latest, self._latest = self._latest, None
        if validated and self._parts.val_feed is not None:
            with self._parts.engine.calibrated(latest):
                self._validate(self._parts.val_feed)
        if saved:
            self._parts.watchdog.beat("a checkpoint", self.step)
            self._parts.keeper.save(self.position)
            self._parts.steplog.status(self.step)

    def _logs(self, step: int) -> bool:
        """Tell whether a step gets a log row."""
        return step % self._config.log.every_steps == 0 or step >= self._plan.total_steps

    def _read_verdicts(self, later: int) -> StepResult | None:
        """Read what became of all steps but the latest ``later``; return that of the last one read.

        While steps are being left out all are read at once, so that none too many is tried.
        """
        result = None
        while len(self._verdicts) > (0 if self._skipped_in_a_row else later):
            step, verdict = self._verdicts.popleft()
            result = verdict.result()
            self._note_skips(step, result)
        return result

    def _note_skips(self, step: int, result: StepResult) -> None:
        """Count steps that were left out; stop after too many bad ones in a row."""
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if result.bad else 0
        if result.applied:
            return
        self._parts.steplog.skipped(step, result, self._skipped_in_a_row)
        if self._skipped_in_a_row >= self._config.safety.max_skipped_steps:
            self._verdicts.clear()
            self._fail([f"{self._skipped_in_a_row} steps in a row were not finite"])

    def _validate(self, feed: ValidationFeed) -> None:
        started = time.monotonic()

        def progress() -> None:
            self._parts.watchdog.beat("validation", self.step)

        progress()
        result = validate(
            self._parts.engine,
            feed,
            self._ranks,
            progress,
            most_negatives=self._config.queue.size,
            recordings_apart=not self._config.objective.same_recording_negatives,
            probe=LabelProbe(self._ranks) if self._validation_times.probes(self.step) else None,
            # Validation draws are fixed: looks alone find the same partners at every step.
            thumbnails=ThumbnailProbe(self._ranks) if self.step == 0 else None,
        )
        # The untrained network is a control, not a result to be beaten.
        cut = self.step > 0 and self._parts.schedule.observe(result.loss)
        cut_to = self._parts.schedule.rate(self.step) if cut else None
        self._parts.steplog.validation(self.step, self.epoch, result, started=started, cut_to=cut_to)

    def _finish_saving(self) -> None:
        self._parts.watchdog.beat("the last checkpoint", self.step)
        self._parts.keeper.finish(self.position)

    def _leave_early(self, reason: str) -> int:
        self._read_verdicts(0)
        log.warning("stopping after step %d: %s", self.step, reason)
        self._finish_saving()
        self._parts.steplog.preempted(self.step, reason)
        return exit_status.PREEMPTED

    def _fail(self, texts: list[str]) -> NoReturn:
        """Save what can be saved, then end the run with the reasons of all ranks."""
        text = "; ".join(dict.fromkeys(texts)) or "unknown error"
        with contextlib.suppress(RunFailedError):
            self._read_verdicts(0)
        try:
            self._finish_saving()
        except RunFailedError as error:
            text = f"{text} ({error})"
        raise RunFailedError(text)


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's global generator in a step (dropout): a resume draws what the first run drew."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
