"""Trains a downstream head epoch by epoch, scores it with ``pal-eval``'s figures, and goes on after any stop."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pal_ds.config.base import ConfigError
from pal_ds.config.end_to_end import EndToEndConfig
from pal_ds.config.heads import HEADS
from pal_ds.config.tac import TacConfig
from pal_ds.config.transfer import TransferConfig
from pal_ds.transfer.metrics.evaluate import Report, evaluate
from pal_ds.transfer.metrics.tiou import ACTIVITYNET_TIOU, parse_thresholds
from pal_ds.transfer.run_folder import RunFolder
from pal_ds.transfer.tasks.base import Task
from pal_ds.transfer.tasks.end_to_end_detection import EndToEndTask
from pal_ds.transfer.tasks.trimmed_classification import TacTask

logger = logging.getLogger("pal_ds.transfer")


class Preempted(Exception):  # noqa: N818 (a request, not an error)
    """The process was asked to stop; the last whole epoch is saved."""


def pick_device(wanted: str) -> torch.device:
    """Give the device that ``run.device`` means.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device", wanted, "there is no CUDA device; use auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def build_task(name: str, config: TransferConfig | TacConfig | EndToEndConfig) -> Task:
    """Make the task ``tad``, ``apg``, ``vg``, ``tac`` or ``e2e`` with its data and a fresh head.

    Raises:
        ConfigError: the head doesn't do the task, or data don't fit.
        AnnotationError: an annotation file is malformed.
        FeatureError: a feature file is.
    """
    device = pick_device(config.run.device)
    torch.manual_seed(config.run.seed)
    if isinstance(config, TacConfig):
        return TacTask(config, device=device)
    if isinstance(config, EndToEndConfig):
        _check_tiou(config.tiou)
        return EndToEndTask(config, device=device)
    config.check_task(name)
    _check_tiou(config.tiou)
    task: Task = HEADS[config.head.name].load_task()(config, labelled=name == "tad", device=device)
    return task


def _check_tiou(text: str) -> None:
    try:
        parse_thresholds(text or ACTIVITYNET_TIOU)
    except ValueError as error:
        raise ConfigError("tiou", text, str(error)) from None


def train(name: str, config: TransferConfig | TacConfig | EndToEndConfig) -> dict[str, Any]:
    """Train and evaluate; run again after an interruption to go on from the last whole epoch.

    Args:
        name: ``tad``, ``apg``, ``vg``, ``tac`` or ``e2e``.
        config: of the run.

    Returns:
        What ``result.json`` holds: task, head, epoch reported, figures.

    Raises:
        ConfigError: settings don't fit the data, or the run already in the folder.
        Preempted: SIGTERM or SIGINT came; run again to go on.
    """
    folder = RunFolder(name, config)
    task = build_task(name, config)
    folder.claim()
    trainer = Trainer(task, config, folder)
    with _stop_on_signal() as stop:
        epoch = trainer.resume()
        folder.status("running", epoch)
        try:
            while epoch < config.run.epochs:
                epoch = trainer.epoch(epoch, stop)
        except Preempted:
            folder.status("preempted", epoch)
            raise
        except BaseException:
            folder.status("failed", epoch)
            raise
    task.finish()
    result = {"task": name, "head": task.head, "epochs": epoch, **trainer.best}
    folder.write_json("result.json", result)
    folder.status("done", epoch)
    return result


class Trainer:
    """One run's loop.

    Args:
        task: with its head.
        config: of the run.
        folder: of the run.
    """

    def __init__(
        self, task: Task, config: TransferConfig | TacConfig | EndToEndConfig, folder: RunFolder
    ) -> None:
        self.task, self.config, self.folder = task, config, folder
        rate = config.optimizer
        learned = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        kind = torch.optim.AdamW if rate.decoupled else torch.optim.Adam
        self.optimizer = kind(learned, lr=rate.lr, weight_decay=rate.weight_decay)
        self.best: dict[str, Any] = {}

    def resume(self) -> int:
        """Load the newest epoch, if any, and give the number of epochs done."""
        done = self.folder.newest()
        if done:
            self.best = self.folder.load(self.task.model, self.optimizer)["best"]
            logger.info("going on after epoch %d", done)
        return done

    def epoch(self, done: int, stop: list[int]) -> int:
        """Train one epoch, evaluate where it's due, save, and give the number of epochs done."""
        run, rate = self.config.run, self.config.optimizer
        begin = time.perf_counter()
        lr = rate.lr * rate.drop_factor ** sum(drop <= done for drop in rate.drop_after)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        means = self._train(done, stop)
        done += 1
        row = {"epoch": done, **means, "lr": lr, "seconds": time.perf_counter() - begin}
        # With a reported epoch to choose, every epoch is a candidate unless told otherwise.
        every = run.evaluate_every or (run.epochs if run.select == "last" else 1)
        if done % every == 0 or done == run.epochs:
            row |= self._evaluate(done)
        self.folder.save(
            done, self.task.model, self.optimizer, {"epoch": done, "best": self.best, **self.task.state()}
        )
        self.folder.log(row)
        logger.info(
            " ".join(f"{key} {value:.6g}" for key, value in row.items() if isinstance(value, (int, float)))
        )
        return done

    def _train(self, done: int, stop: list[int]) -> dict[str, float]:
        rate, model = self.config.optimizer, self.task.model
        model.train()
        # All draws of an epoch follow from the seed and its number: going on gives the same run.
        torch.manual_seed(self.config.run.seed * 1_000_003 + done)
        order = torch.randperm(self.task.items).tolist()
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(self.config.run.seed * 1_000_003 + done)
        sums: dict[str, float] = {}
        batches = [order[begin : begin + rate.batch] for begin in range(0, len(order), rate.batch)]
        self.task.begin_epoch(batches, done)
        for items in batches:
            if stop:
                raise Preempted
            losses = self.task.losses(items, generator)
            if not torch.isfinite(losses["loss"]):
                raise FloatingPointError(f"the loss of epoch {done + 1} isn't finite; lower optimizer.lr")
            self.optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            if rate.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), rate.clip)
            self.optimizer.step()
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach()) * len(items)
        return {key: value / len(order) for key, value in sums.items()}

    def _evaluate(self, done: int) -> dict[str, Any]:
        """Score the evaluated subset; keep the predictions of the epoch that is to be reported."""
        model = self.task.model
        model.eval()
        row: dict[str, Any] = {}
        with torch.no_grad():
            if self.config.run.select == "loss":
                generator = torch.Generator(next(model.parameters()).device).manual_seed(self.config.run.seed)
                row["evaluation_loss"] = self.task.evaluation_loss(generator)
            results = self.task.predict()
        report = self._score(results)
        name, value = self.task.headline(report.figures)
        row |= {"headline": name, "value": value, "figures": report.figures}
        merit = -row["evaluation_loss"] if self.config.run.select == "loss" else value
        if self.config.run.select == "last" or not self.best or merit > self.best["merit"]:
            self.best = {
                "epoch": done,
                "merit": merit,
                "figures": report.figures,
                "warnings": list(report.warnings),
            }
            self.folder.write_json("predictions.json", _official(results))
            self._page(report)
        return row

    def _score(self, results: Any) -> Report:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "predictions.json"
            path.write_text(json.dumps(_official(results)))
            # The very code of pal-eval, on the very file it would read.
            return evaluate(
                self.task.metric,
                self.task.truth,
                str(path),
                subset=None
                if not self.task.dataset and self.task.truth.endswith((".csv", ".txt"))
                else self.task.subset,
                tiou=self.task.tiou or None,
                dataset=self.task.dataset,
            )

    def _page(self, report: Report) -> None:
        try:
            from pal_ds.transfer.metrics.html_page import render

            self.folder.write_text("report.html", render(report))
        except ImportError as error:
            logger.warning("no report.html: %s", error)


def _official(results: Any) -> dict[str, Any]:
    return {"version": "VERSION 1.3", "results": results, "external_data": {}}


@contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; a second one has its usual effect."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
