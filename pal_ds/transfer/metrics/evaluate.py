"""From two files to a task's figures: what ``pal-eval`` and the trainers of heads call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pal_ds.config.base import ConfigError
from pal_ds.config.datasets import DATASETS, DatasetChoice
from pal_ds.transfer.datasets.annotations import Query
from pal_ds.transfer.datasets.detection import read_named
from pal_ds.transfer.datasets.grounding import read_queries
from pal_ds.transfer.metrics.classification import ClassificationResult, evaluate_classification
from pal_ds.transfer.metrics.detection import DetectionResult, evaluate_detection
from pal_ds.transfer.metrics.grounding import GroundingResult, evaluate_grounding
from pal_ds.transfer.metrics.instances import Instances, align
from pal_ds.transfer.metrics.moment_retrieval import RetrievalResult, evaluate_retrieval
from pal_ds.transfer.metrics.prediction_files import from_annotations, read_answers, read_predictions
from pal_ds.transfer.metrics.proposals import ProposalResult, evaluate_proposals
from pal_ds.transfer.metrics.tiou import (
    ACTIVITYNET_TIOU,
    GROUNDING_TIOU,
    Floats,
    parse_thresholds,
    threshold_name,
)

Result = DetectionResult | ProposalResult | GroundingResult | ClassificationResult | RetrievalResult


@dataclass(frozen=True, kw_only=True)
class Report:
    """A task's result with what it was taken from.

    Attributes:
        task: ``detection``, ``proposals``, ``retrieval``, ``grounding`` or ``classification``.
        result: the task's own result.
        warnings: one line each; what a reader of the figures should know.
        truth: annotated instances; None in grounding.
        predictions: predicted instances; None in grounding.
    """

    task: str
    result: Result
    warnings: tuple[str, ...]
    truth: Instances | None = None
    predictions: Instances | None = None

    @property
    def figures(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return self.result.to_json()

    def table(self) -> str:
        """The figures as aligned text for people."""
        rows = _rows(self.result)
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value:6.2f}" for name, value in rows)


def evaluate(
    task: str,
    ground_truth: str,
    predictions: str,
    *,
    subset: str | None = None,
    tiou: str | None = None,
    dataset: str = "",
) -> Report:
    """Score a predictions file against a ground-truth file.

    Args:
        task: ``detection``, ``proposals``, ``retrieval``, ``grounding`` or ``classification``.
        ground_truth: path or URL of the annotations.
        predictions: path or URL of the predictions.
        subset: subset of the ground truth; None is the data set's own, ``validation`` without one.
        tiou: ``START:STOP:STEP``; None is the data set's own (detection), else the task's.
        dataset: benchmark whose files these are; empty tells the form by the file's name.

    Raises:
        ValueError: a malformed file or option, in one line.
    """
    warnings: list[str] = []
    choice = DATASETS.choose(dataset) if dataset else None
    thresholds = parse_thresholds(tiou or _default_tiou(task, choice))
    chosen = _chosen_subset(ground_truth, subset, choice, warnings)
    if task == "grounding":
        if choice is not None:
            raise ConfigError("--dataset", dataset, "has no effect with grounding; remove it")
        queries = read_queries(ground_truth, chosen)
        return _grounding(queries, predictions, thresholds, warnings)
    truth = from_annotations(read_named(dataset, ground_truth, chosen))
    fields: dict[str, Any] = {}
    if choice is not None:
        fields = {"class_field": choice.class_field, "prefix": choice.prefix}
        fields["results_in"] = choice.retrieval_results if task == "retrieval" else choice.results
    guesses = read_predictions(
        predictions, labelled=task != "proposals", timed=task != "classification", **fields
    )
    warnings += _strangers(truth, guesses, labelled=task in ("detection", "retrieval"))
    result: Result
    if task == "detection":
        result = evaluate_detection(truth, guesses, thresholds)
    elif task == "proposals":
        result = evaluate_proposals(truth, guesses, thresholds)
    elif task == "retrieval":
        result = evaluate_retrieval(truth, guesses, thresholds)
    elif task == "classification":
        result = evaluate_classification(truth, guesses)
    else:
        raise ValueError(
            f"task = {task!r}: one of detection, proposals, retrieval, grounding, classification"
        )
    return Report(task=task, result=result, warnings=tuple(warnings), truth=truth, predictions=guesses)


def _default_tiou(task: str, choice: DatasetChoice | None) -> str:
    if task == "detection" and choice is not None:
        return choice.tiou
    return GROUNDING_TIOU if task in ("grounding", "retrieval") else ACTIVITYNET_TIOU


def _chosen_subset(
    ground_truth: str, subset: str | None, choice: DatasetChoice | None, warnings: list[str]
) -> str | None:
    """Return the subset to read: None where the file has none."""
    if choice is not None:
        return subset or choice.evaluate
    if not ground_truth.lower().endswith((".csv", ".txt")):
        return subset or "validation"
    if subset is not None:
        warnings.append(f"--subset {subset} has no effect: {ground_truth} has no subsets")
    return None


def _grounding(
    queries: tuple[Query, ...], predictions: str, thresholds: Floats, warnings: list[str]
) -> Report:
    spans, answered = read_answers(predictions, queries)
    if not answered.all():
        warnings.append(
            f"{int((~answered).sum())} of {len(queries)} queries have no prediction and count as missed"
        )
    truth = np.array([(query.start, query.end) for query in queries], dtype=np.float64)
    result = evaluate_grounding(truth, spans, answered, thresholds)
    return Report(task="grounding", result=result, warnings=tuple(warnings))


def _strangers(truth: Instances, guesses: Instances, *, labelled: bool) -> list[str]:
    """Say which predictions name a video or class that the ground truth doesn't know."""
    aligned = align(guesses, truth)
    warnings = []
    lost = np.flatnonzero(aligned.video < 0)
    if len(lost):
        example = guesses.videos[int(guesses.video[lost[0]])]
        count = f"{len(lost)} of {len(guesses)} predictions"
        warnings.append(f"{count} are on videos without ground truth, such as {example!r}")
    odd = np.flatnonzero(aligned.label < 0) if labelled else lost[:0]
    if len(odd):
        example = guesses.labels[int(guesses.label[odd[0]])]
        count = f"{len(odd)} of {len(guesses)} predictions"
        warnings.append(
            f"{count} are of classes without ground truth, such as {example!r}; they count nowhere"
        )
    return warnings


def _rows(result: Result) -> list[tuple[str, float]]:
    if isinstance(result, DetectionResult):
        at = [
            (f"mAP@{threshold_name(float(tiou))}", float(value))
            for tiou, value in zip(result.thresholds, result.map_k, strict=True)
        ]
        return [*at, ("average mAP", result.average_map)]
    if isinstance(result, ProposalResult):
        recall = result.average_recall_a
        return [
            *((f"AR@{number}", float(recall[number - 1])) for number in (1, 5, 10, 100)),
            ("AUC", result.auc),
        ]
    if isinstance(result, RetrievalResult):
        return [
            (
                f"Recall@{multiple}x, tIoU {threshold_name(float(tiou))}",
                float(result.recall_rk[place, column]),
            )
            for column, tiou in enumerate(result.thresholds)
            for place, multiple in enumerate(result.multiples)
        ]
    if isinstance(result, GroundingResult):
        recall_k = [
            (f"R@1, tIoU {threshold_name(float(tiou))}", float(value))
            for tiou, value in zip(result.thresholds, result.recall_k, strict=True)
        ]
        return [*recall_k, ("mIoU", result.mean_iou)]
    return [("top-1", result.top(1)), ("top-5", result.top(5))]
