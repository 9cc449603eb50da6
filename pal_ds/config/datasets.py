"""The benchmarks that ``data.dataset`` and ``pal-eval --dataset`` can name; a new one is a reader and an entry here.

A reader is a function ``(url, subset) -> tuple[VideoAnnotation, ...]`` in ``pal_ds/transfer/datasets``. An entry says
besides what the benchmark's own evaluation fixes: thresholds, subsets, and how its submissions name things.
"""

from __future__ import annotations

import dataclasses

from pal_ds.config.registry import Choice, Registry

_FOLDER = "pal_ds.transfer.datasets"
_LOOSE = "0.1:0.5:0.1"
_STRICT = "0.5:0.95:0.05"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetChoice(Choice):
    """A benchmark of detection; ``build`` names its reader.

    Attributes:
        title: what its authors call it.
        tiou: thresholds of its mean average precision, ``START:STOP:STEP``.
        train: subset to train on.
        evaluate: subset to score on.
        class_field: where a submission names a prediction's class; it may be a number there.
        results: objects of a submission that hold the detections; the first one found is read.
        retrieval_results: the same for the task ``retrieval``.
        prefix: of video ids in the files, left out here as it is in the names of feature files.
    """

    title: str
    tiou: str = _STRICT
    train: str = "training"
    evaluate: str = "validation"
    class_field: str = "label"
    results: tuple[str, ...] = ("results",)
    retrieval_results: tuple[str, ...] = ("results",)
    prefix: str = ""


def _epic(kind: str) -> DatasetChoice:
    return DatasetChoice(
        name=f"epic_kitchens_{kind}",
        title=f"EPIC-KITCHENS-100, {kind}s",
        build=f"{_FOLDER}.epic_kitchens:read_{kind}s",
        tiou=_LOOSE,
        train="train",
        class_field=kind,
    )


DATASETS = Registry(
    "data.dataset",
    (
        DatasetChoice(
            name="activitynet", title="ActivityNet v1.3", build=f"{_FOLDER}.detection:read_detection"
        ),
        DatasetChoice(
            name="thumos14",
            title="THUMOS'14",
            build=f"{_FOLDER}.detection:read_detection",
            tiou="0.3:0.7:0.1",
            train="Validation",
            evaluate="Test",
        ),
        DatasetChoice(name="hacs", title="HACS Segments", build=f"{_FOLDER}.hacs:read_hacs"),
        DatasetChoice(
            name="fineaction", title="FineAction", build=f"{_FOLDER}.fineaction:read_fineaction", prefix="v_"
        ),
        DatasetChoice(
            name="multithumos",
            title="MultiTHUMOS",
            build=f"{_FOLDER}.multithumos:read_multithumos",
            tiou="0.1:0.9:0.1",
            train="validation",
            evaluate="test",
        ),
        _epic("verb"),
        _epic("noun"),
        _epic("action"),
        DatasetChoice(
            name="ego4d_mq",
            title="Ego4D Moment Queries",
            build=f"{_FOLDER}.ego4d_mq:read_moments",
            tiou=_LOOSE,
            train="train",
            evaluate="val",
            results=("results", "detect_results"),
            retrieval_results=("results", "retrieve_results"),
        ),
    ),
)
