"""Exports a run's head with the encoder of its features as one folder (``pal-transfer export``)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import yaml
from torch import Tensor, nn

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.loading import build
from pal_ds.config.transfer import TransferConfig
from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.formats.checkpoint import COMMITTED
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.datasets.annotations import AnnotationError
from pal_ds.transfer.datasets.detection import read_detection
from pal_ds.transfer.extraction.destination import SETTINGS_NAME
from pal_ds.transfer.localize.errors import ModelError
from pal_ds.transfer.localize.model_folder import (
    ModelSpec,
    check_fit,
    predictor_of,
    strict_load,
    write_model,
)
from pal_ds.transfer.localize.sampling import check_sampling, feature_width
from pal_ds.transfer.metrics.detection_errors import hit_rows
from pal_ds.transfer.metrics.instances import Instances
from pal_ds.transfer.metrics.prediction_files import from_annotations, read_predictions
from pal_ds.transfer.tasks.boundary_map_detection import annotated_videos
from pal_ds.transfer.tasks.class_scores import SegmentClassifier
from pal_ds.transfer.tasks.predictor import Reading

#: Overlap from which a detection counts as right where the threshold is chosen.
RIGHT_TIOU = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What the run's own settings leave open.

    Attributes:
        features: folder of the training features; empty takes the run's.
        annotations: their ground truth; empty takes the run's.
        epoch: whose weights are taken; 0 takes the one that the run reports.
        threshold: score from which an action is shown; None takes the one with the best F1 on the evaluated subset.
    """

    features: str = ""
    annotations: str = ""
    epoch: int = 0
    threshold: float | None = None


def export_model(
    run_url: str, encoder_url: str, out_url: str, options: ExportOptions, versions: Mapping[str, str]
) -> tuple[ModelSpec, list[str]]:
    """Write a head and its encoder as one folder.

    Where the head tells no classes apart, the classifier of segments that named its detections is trained again, from
    the same features and seed.

    Args:
        run_url: run folder of ``pal-transfer --task tad`` or ``apg``.
        encoder_url: whatever :func:`load_backbone` understands.
        out_url: folder or URL of the model.
        options: see there.
        versions: kept in the model.

    Returns:
        What was written, and warnings for people.

    Raises:
        ModelError: no such run, or head and encoder don't fit.
        BackboneError: the source holds no encoder.
        ConfigError: the run's settings can't be read.
        AnnotationError, FeatureError: of the run's data.
        StorageError: a place can't be read or written.
    """
    task, config = _read_config(run_url, options)
    kind = predictor_of(config.head.name)
    epoch, state, head = _read_checkpoint(run_url, options.epoch)
    module, spec = load_backbone(encoder_url)
    sampling, width = _read_sampling(config.data.features, module, spec)
    own = tuple(state.get("classes", ())) if task == "tad" and not config.data.class_scores else ()
    strict_load(kind.network(config.head, width, own), head, storage.redact(run_url))
    warnings = []
    classifier = None
    if task == "tad" and not own:
        classifier = _train_classifier(config)
        if config.data.class_scores:
            warnings.append(
                "the run's class scores exist for its own videos only: classes of new videos come from a linear "
                "classifier of segments, trained on the run's features"
            )
    threshold = options.threshold
    if threshold is None:
        threshold, f1 = _choose_threshold(run_url, task, config)
        if f1 == 0:
            warnings.append(
                "no prediction on the evaluated subset is right: the threshold is 0; see --threshold"
            )
    made = ModelSpec(
        task=task,
        reading=Reading.of(config),
        sampling=sampling,
        feature_dim=width,
        classes=own or (classifier.names if classifier else ()),
        classifier=classifier is not None,
        threshold=threshold,
        trained={"epoch": epoch, "figures": state.get("best", {}).get("figures", {})},
        versions=dict(versions),
    )
    write_model(out_url, made, (module, spec), head, classifier)
    return made, warnings


def _read_config(run_url: str, options: ExportOptions) -> tuple[str, TransferConfig]:
    place = storage.redact(run_url)
    try:
        text = storage.read_bytes(storage.join(run_url, "config.yaml"), retry=storage.AT_START).decode()
    except storage.StorageNotFoundError:
        raise ModelError(f"{place}: no config.yaml in it; give a run folder of pal-transfer") from None
    line = text.partition("\n")[0]
    task = line.removeprefix("# task: ")
    if task not in ("tad", "apg"):
        what = f"a run of task {task}" if line.startswith("# task: ") else "no run of pal-transfer"
        raise ModelError(f"{place}: is {what}; give one of task tad or apg")
    try:
        tree = yaml.safe_load(text)
        tree["data"]["features"] = options.features or tree["data"]["features"]
        tree["data"]["annotations"] = options.annotations or tree["data"]["annotations"]
        # Weights of a release that the run started from aren't needed any more.
        if "weights" in tree["head"]:
            tree["head"]["weights"] = ""
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ModelError(f"{place}/config.yaml: damaged: {type(error).__name__}: {error}") from None
    return task, build(TransferConfig, tree)


def _read_checkpoint(run_url: str, wanted: int) -> tuple[int, dict[str, Any], dict[str, Tensor]]:
    """Give the number, state and weights of an epoch: the wanted one, or the one that the run reports."""
    place, folder = storage.redact(run_url), storage.join(run_url, "checkpoints")
    epochs = sorted(
        int(name.removeprefix("epoch-"))
        for name in storage.list_names(folder)
        if name.startswith("epoch-") and storage.exists(storage.join(folder, name, COMMITTED))
    )
    if not epochs:
        raise ModelError(f"{place}: no committed epoch in its checkpoints; train the head first")
    newest = _state(folder, epochs[-1])
    epoch = wanted or int(newest.get("best", {}).get("epoch", epochs[-1]))
    if epoch not in epochs:
        kept = ", ".join(map(str, epochs))
        why = "isn't there" if wanted else "is the one that the run reports, and isn't kept any more"
        raise ModelError(f"{place}: epoch {epoch} {why}; choose with --epoch one of: {kept}")
    data = storage.read_bytes(storage.join(folder, f"epoch-{epoch:04d}", "model.safetensors"))
    try:
        return epoch, _state(folder, epoch) | {"best": newest.get("best", {})}, safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{place}: the weights of epoch {epoch} are damaged: {error}") from None


def _state(folder: str, epoch: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(
        storage.read_bytes(storage.join(folder, f"epoch-{epoch:04d}", "state.json"))
    )
    return state


def _read_sampling(features: str, module: nn.Module, spec: BackboneSpec) -> tuple[dict[str, Any], int]:
    """Return how the head's features were sampled, and their width; refuse another encoder than theirs."""
    place = storage.redact(features)
    try:
        settings = json.loads(storage.read_bytes(storage.join(features, SETTINGS_NAME)))
        width, made_by = int(settings["feature_dim"]), str(settings["checkpoint"])
    except storage.StorageNotFoundError:
        raise ModelError(
            f"{place}: no {SETTINGS_NAME} in it, so how videos become its features isn't known; a model needs "
            "features that pal-extract made (moved ones: --features)"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{place}/{SETTINGS_NAME}: damaged: {error}") from None
    fixed = ("format", "checkpoint", "backbone", "feature_dim")
    sampling = {name: value for name, value in settings.items() if name not in fixed}
    check_sampling(sampling, place)
    check_fit(feature_width(module, spec, sampling), width, f"{spec.source} with {place}")
    if spec.digest != made_by:
        raise ModelError(
            f"{spec.source}: these weights ({spec.digest[:12]}) aren't those that made the features in {place} "
            f"({made_by[:12]}); give that encoder"
        )
    return sampling, width


def _train_classifier(config: TransferConfig) -> SegmentClassifier:
    data = config.data
    store = FeatureStore(data.features)
    training = annotated_videos(store, data.annotations, data.train_subset, data.missing, "training")
    return SegmentClassifier.train(store, training, seed=config.run.seed)


def _choose_threshold(run_url: str, task: str, config: TransferConfig) -> tuple[float, float]:
    """Give the score with the best F1 at ``RIGHT_TIOU`` on what the run was evaluated on, and that F1."""
    data = config.data
    try:
        predictions = read_predictions(storage.join(run_url, "predictions.json"), labelled=task == "tad")
        truth = from_annotations(
            read_detection(data.evaluate_annotations or data.annotations, data.evaluate_subset)
        )
    except (AnnotationError, storage.StorageNotFoundError) as error:
        raise ConfigError(
            "--threshold", None, f"can't be chosen by itself ({error}); give it, e.g. --threshold 0.1"
        ) from None
    if task != "tad":
        truth, predictions = _one_class(truth), _one_class(predictions)
    return best_threshold(truth, predictions)


def best_threshold(truth: Instances, predictions: Instances) -> tuple[float, float]:
    """Give the score from which predictions have the best F1 at tIoU 0.5, and that F1; 0, 0 where none is right."""
    hits = hit_rows(truth, predictions, RIGHT_TIOU)
    order = np.argsort(-predictions.scores, kind="stable")
    scores, right = predictions.scores[order], np.cumsum(hits[order])
    if not right.any() or not len(truth):
        return 0.0, 0.0
    f1 = 2 * right / (np.arange(1, len(scores) + 1) + len(truth))
    # Equal scores stand or fall together.
    last = np.append(scores[1:] != scores[:-1], True)
    best = int(np.argmax(np.where(last, f1, -1.0)))
    return float(scores[best]), float(f1[best])


def _one_class(rows: Instances) -> Instances:
    return dataclasses.replace(rows, labels=("action",), label=np.zeros(len(rows), dtype=np.int64))
