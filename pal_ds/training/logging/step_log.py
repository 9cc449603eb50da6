"""What a run tells of its steps: rows of metrics, events, console lines, gathered from all ranks."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import resource
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pal_ds.config import Config
from pal_ds.distributed.ranks import Ranks
from pal_ds.distributed.step_clock import CLOCK
from pal_ds.models import ObjectiveOutput
from pal_ds.models.ssl.knn_probe import collapse_warning
from pal_ds.planning.cost import job_of
from pal_ds.planning.hardware import find_gpu
from pal_ds.planning.run_plan import RunPlan
from pal_ds.planning.step_estimate import step_tflop
from pal_ds.training.device_feed import TrainFeed
from pal_ds.training.engine import TrainEngine
from pal_ds.training.logging.console import Console
from pal_ds.training.logging.run_log import RunLog
from pal_ds.training.logging.source_counters import SourceCounters
from pal_ds.training.logging.stragglers import Stragglers
from pal_ds.training.logging.throughput import Meter
from pal_ds.training.step_result import StepResult
from pal_ds.training.validation import Validation

log = logging.getLogger(__name__)

_RETRIES_WORTH_TELLING = 10
#: Rows whose losses are compared to see whether the loss falls; also the rows between two warnings of collapse.
_ROWS_COMPARED = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer step as it happened on this rank.

    Attributes:
        step: optimizer steps done, this one included.
        epoch: its epoch, from 0.
        rate: learning rate.
        result: what became of it.
        outputs: of every micro-step.
        digests: uint8 [groups, 8] of every micro-step.
    """

    step: int
    epoch: int
    rate: float
    result: StepResult
    outputs: Sequence[ObjectiveOutput]
    digests: Sequence[Tensor]


class StepLog:
    """Writes the rows of ``metrics.jsonl`` and their console lines; every method is called on all ranks.

    Args:
        config: the run.
        ranks: this process.
        plan: the run's arithmetic.
        engine: for the queue's fill and the loss scale.
        feed: for waiting, replaced clips and the loader's counters.
        runlog: the log files; rank 0 only.
        step: steps already done.
        hosts: names of the ranks' hosts, by rank, for what is told of one.
    """

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        plan: RunPlan,
        engine: TrainEngine,
        feed: TrainFeed,
        *,
        runlog: RunLog | None,
        step: int,
        hosts: Sequence[str] = (),
    ) -> None:
        self._ranks = ranks
        self._engine = engine
        self._feed = feed
        self._runlog = runlog
        self._meter = Meter(config.data.global_batch, feed, cached=bool(config.data.cache_dir))
        self._console = Console(plan.total_steps, step) if ranks.is_first else None
        self._peak_videos = _peak_videos_per_second(config, plan, ranks)
        self._retries_told = 0.0
        self._dim = config.model.embedding_dim
        self._losses: deque[float] = deque(maxlen=_ROWS_COMPARED)
        self._rows_since_warning = _ROWS_COMPARED
        self._hosts = hosts
        self._stragglers = Stragglers(factor=config.log.straggler_factor, rows=config.log.straggler_rows)
        self._untrained = runlog.untrained if runlog is not None else None
        self._sources = SourceCounters(plan.epoch)

    def add_time(self, seconds: float) -> None:
        """Count a step that took so long, waiting included."""
        self._meter.add_step(seconds)

    def step(self, record: StepRecord) -> None:
        """Write a training row (collective)."""
        result = record.result
        loss, values, data_wait = self._means(record.outputs)
        batch_hash = self._batch_hash(record.digests)
        loader = self._loader_row()
        own_seconds = self._own_seconds()
        memory = float(self._ranks.maximum(_memory_mb(self._ranks.device)).item())
        replaced = self._feed.take_replaced()
        (any_replaced,) = self._ranks.any(bool(replaced))
        replaced = self._ranks.collect(replaced) if any_replaced else []
        videos_per_second = self._meter.videos_per_second
        self._meter.reset()
        if self._runlog is None or self._console is None:
            return
        self._sources.add(replaced)
        row = {
            "step": record.step,
            "epoch": record.epoch,
            "loss": loss if result.applied or result.overflow else None,
            "lr": record.rate,
            "batch_hash": batch_hash,
            "videos_per_second": videos_per_second,
            "data_wait": data_wait,
            "grad_norm": result.grad_norm,
            "queue_fill": self._engine.objective.queue_fill,
            "memory_mb": memory,
            **values,
            **loader,
            **self._sources.row(record.step),
            **(Stragglers.row(own_seconds) if own_seconds else {}),
        }
        if self._peak_videos is not None:
            row["mfu"] = videos_per_second / self._peak_videos
        if self._engine.scaler is not None:
            row["loss_scale"] = float(self._engine.scaler.get_scale())
        self._runlog.metrics(row)
        if own_seconds:
            self._watch_for_stragglers(record.step, own_seconds)
        for clip in replaced:
            details = {key: value for key, value in clip.items() if key != "step"}
            self._runlog.event("replaced", clip.get("step", record.step), **details)
        if loader["loader_retries"] - self._retries_told >= _RETRIES_WORTH_TELLING:
            self._runlog.event("retries", record.step, since_start=loader["loader_retries"])
            self._retries_told = loader["loader_retries"]
        self._console.row(row)
        if result.applied and "feature_std" in values:
            self._watch_for_collapse(record.step, loss, values["feature_std"])

    def _own_seconds(self) -> list[float]:
        """Own time of the step, of every rank; empty where it was not measured, or there is one rank (collective)."""
        if self._ranks.world_size == 1:
            return []
        seconds = CLOCK.seconds()
        everywhere = self._ranks.gather(
            torch.tensor([-1.0 if seconds is None else seconds], dtype=torch.float64)
        )
        found: list[float] = everywhere.flatten().tolist()
        return found if min(found) >= 0 else []

    def _watch_for_stragglers(self, step: int, own_seconds: list[float]) -> None:
        """Tell of a rank that has been too slow for several rows."""
        slow = self._stragglers.see(own_seconds)
        if slow is None or self._runlog is None:
            return
        details = dataclasses.asdict(slow)
        if len(self._hosts) == self._ranks.world_size:
            details["host"] = self._hosts[slow.rank]
        log.warning(
            "step %d: rank %d works %.2f s on a step, the median rank %.2f s, in %d log rows in a row%s",
            step,
            slow.rank,
            slow.seconds,
            slow.median,
            slow.rows,
            f"; its host is {details['host']}" if "host" in details else "",
        )
        self._runlog.event("straggler", step, **details)

    def _watch_for_collapse(self, step: int, loss: float, feature_std: float) -> None:
        """Warn of a loss that falls without features that spread; not at every row."""
        self._losses.append(loss)
        self._rows_since_warning += 1
        if len(self._losses) < _ROWS_COMPARED or self._rows_since_warning < _ROWS_COMPARED:
            return
        warning = collapse_warning(list(self._losses), feature_std, dim=self._dim)
        if warning is not None and self._runlog is not None:
            self._rows_since_warning = 0
            log.warning("step %d: %s", step, warning)
            self._runlog.event("collapse", step, feature_std=feature_std)

    def skipped(self, step: int, result: StepResult, in_a_row: int) -> None:
        """Tell of a step that was left out."""
        if self._runlog is not None:
            self._runlog.event("overflow" if result.overflow else "skipped", step, in_a_row=in_a_row)
        if result.bad:
            log.warning("step %d left out: a loss or gradient was not finite", step)

    def validation(
        self, step: int, epoch: int, result: Validation, *, started: float, cut_to: float | None
    ) -> None:
        """Write a validation row.

        Args:
            step: optimizer steps done.
            epoch: epoch of the latest.
            result: what was found.
            started: when, on the monotonic clock.
            cut_to: the learning rate from here on, where it was cut.
        """
        self._meter.reset()
        if self._runlog is None or self._console is None:
            return
        row: dict[str, Any] = {"step": step, "epoch": epoch, "val_loss": result.loss}
        row["val_samples"] = result.samples
        row |= {f"val_{name}": value for name, value in result.metrics.items()}
        row["val_seconds"] = time.monotonic() - started
        self._runlog.metrics(row)
        self._console.validation(row, self._untrained)
        if step == 0:
            self._untrained = row
        if cut_to is not None:
            self._runlog.event("lr_cut", step, lr=cut_to)

    def status(self, step: int) -> None:
        """Note in ``STATUS.json`` how far the run is."""
        if self._runlog is not None:
            self._runlog.progress(step)

    def preempted(self, step: int, reason: str) -> None:
        """Note why the run stops early."""
        if self._runlog is not None:
            self._runlog.event("preempted", step, reason=reason)

    def close(self) -> None:
        """Take the console's bar away."""
        if self._console is not None:
            self._console.close()

    def _means(self, outputs: Sequence[ObjectiveOutput]) -> tuple[float, dict[str, float], float]:
        """Return loss and metrics as means over micro-steps and ranks, and the share spent waiting."""
        names = sorted(outputs[0].metrics)
        losses = [output.loss.detach().float() for output in outputs]
        columns = [torch.stack(losses).mean()]
        columns += [
            torch.stack([output.metrics[name].float() for output in outputs]).mean() for name in names
        ]
        loss, *values = self._ranks.mean(torch.stack(columns)).tolist()
        data_wait = float(self._ranks.mean(torch.tensor([self._meter.data_wait])).item())
        return loss, dict(zip(names, values, strict=True)), data_wait

    def _loader_row(self) -> dict[str, float]:
        """Loader counters since the start of this process, summed over ranks."""
        local = self._meter.loader_counters()
        values = torch.tensor(list(local.values()), dtype=torch.float64)
        total = dict(zip(local, self._ranks.total(values).tolist(), strict=True))
        decoded = 1000.0 * total.pop("loader_decode_seconds") / max(1.0, total.pop("loader_clips"))
        row = {**{name: int(value) for name, value in total.items()}, "loader_decode_ms": decoded}
        if "loader_cached_bytes" in row:
            cached = row["loader_cached_bytes"]
            row["loader_cache_share"] = cached / max(1, cached + row["loader_bytes"])
        return row

    def _batch_hash(self, digests: Sequence[Tensor]) -> str:
        """Digest of the global batch's ordered keys and draws: equal for any number of ranks and workers."""
        local_agb = torch.stack(list(digests))
        everywhere = self._ranks.gather(local_agb).transpose(0, 1)
        return hashlib.blake2b(bytes(everywhere.flatten().tolist()), digest_size=8).hexdigest()


def _memory_mb(device: torch.device) -> Tensor:
    """Return the peak memory of this rank, MB: allocated on the GPU, resident without one."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e6
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return torch.tensor([peak])


def _peak_videos_per_second(config: Config, plan: RunPlan, ranks: Ranks) -> float | None:
    """Return the rate at which the GPUs would run at their data sheets' peak; None where that is not known.

    The peaks known are those of 16-bit matrix arithmetic, so that a run in fp32 has no MFU.
    """
    if ranks.device.type != "cuda" or config.precision == "fp32":
        return None
    gpu = find_gpu(torch.cuda.get_device_name(ranks.device))
    if gpu is None:
        return None
    job = job_of(config, videos=plan.epoch.clips, clip_bytes=0, gpu=gpu, gpus=ranks.world_size, price=0.0)
    return gpu.tflops * ranks.world_size / step_tflop(job) * config.data.global_batch
