"""The folder that holds a head with its encoder: ``model.json``, ``encoder.safetensors``, ``head.safetensors``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.heads import HEADS, HeadConfig
from pal_ds.config.loading import build, to_tree
from pal_ds.config.transfer import PostConfig
from pal_ds.formats.backbone_file import BackboneSpec, backbone_bytes
from pal_ds.formats.shardset import dump_json
from pal_ds.transfer.backbone_export import load_backbone
from pal_ds.transfer.localize.errors import ModelError
from pal_ds.transfer.localize.sampling import feature_width
from pal_ds.transfer.tasks.class_scores import SegmentClassifier
from pal_ds.transfer.tasks.predictor import Predictor, Reading

FORMAT = "pal-localizer/1"
MODEL_NAME, ENCODER_NAME, HEAD_NAME = "model.json", "encoder.safetensors", "head.safetensors"
#: Tensors of ``head.safetensors``: those of the network, and those of the classifier that names its segments.
NETWORK, CLASSIFIER = "network.", "classifier."
_CLASSIFIER_TENSORS = ("weight_kc", "bias_k", "mean_c", "scale_c")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What ``model.json`` says beside the weights.

    Attributes:
        task: ``tad`` or ``apg``.
        reading: the head's options, how features become its input, and its output segments.
        sampling: how the head's training features were sampled, as ``extract.json`` keeps it.
        feature_dim: C, what the encoder gives and the head takes.
        classes: that segments can have; empty where the head was trained for proposals.
        classifier: whether a classifier of segments names them; else the head itself does.
        threshold: score from which an action is shown, unless told otherwise.
        trained: what is known of the run: epoch, figures.
        versions: of the software it was exported with.
    """

    task: str
    reading: Reading
    sampling: dict[str, Any]
    feature_dim: int
    classes: tuple[str, ...]
    classifier: bool
    threshold: float
    trained: dict[str, Any]
    versions: dict[str, str]

    def to_tree(self) -> dict[str, Any]:
        """Return the fields of ``model.json`` but ``format`` and ``files``."""
        reading = self.reading
        return {
            "task": self.task,
            "classes": list(self.classes),
            "named_by": "classifier" if self.classifier else "head" if self.classes else "nothing",
            "feature_dim": self.feature_dim,
            "sampling": self.sampling,
            "head": to_tree(reading.head),
            "input": {"shape": reading.shape, "every": reading.every, "batch": reading.batch},
            "post": to_tree(reading.post),
            "threshold": self.threshold,
            "trained": self.trained,
            "versions": self.versions,
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> ModelSpec:
        """Read the fields of ``model.json``.

        Raises:
            ConfigError: an option is unknown or out of its range.
            KeyError, TypeError, ValueError: a field is missing or garbled.
        """
        given = tree["input"]
        reading = Reading(
            head=build(HeadConfig, tree["head"], "head."),
            post=build(PostConfig, tree["post"], "post."),
            shape=str(given["shape"]),
            every=int(given["every"]),
            batch=int(given["batch"]),
        )
        return cls(
            task=str(tree["task"]),
            reading=reading,
            sampling=dict(tree["sampling"]),
            feature_dim=int(tree["feature_dim"]),
            classes=tuple(map(str, tree["classes"])),
            classifier=tree["named_by"] == "classifier",
            threshold=float(tree["threshold"]),
            trained=dict(tree.get("trained", {})),
            versions=dict(tree.get("versions", {})),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model, ready to be used.

    Attributes:
        spec: what is known of it.
        backbone: the encoder on the CPU, in eval mode, gradients off.
        backbone_spec: how it is fed.
        network: the head, likewise.
        classifier: names the head's segments; None where the head does, or nothing.
        digest: SHA-256 of ``model.json``, which holds those of the weights.
    """

    spec: ModelSpec
    backbone: nn.Module
    backbone_spec: BackboneSpec
    network: nn.Module
    classifier: SegmentClassifier | None
    digest: str

    def predictor(self, device: torch.device) -> Predictor:
        """Return what finds actions in features, on a device."""
        spec = self.spec
        own = () if spec.classifier else spec.classes
        # A CPU gains nothing from a batch, and sixteen maps of THUMOS'14's size take 2 GB.
        batch = 1 if device.type == "cpu" else spec.reading.batch
        made: Predictor = predictor_of(spec.reading.head.name)(
            dataclasses.replace(spec.reading, batch=batch),
            self.network.to(device),
            device,
            classes=own,
            labeller=self.classifier,
        )
        return made


def predictor_of(head: str) -> type[Predictor]:
    """Return what applies a head to new videos.

    Raises:
        ModelError: nothing does.
    """
    kind: type[Predictor] | None = HEADS.choose(head).load_predictor()
    if kind is None:
        able = ", ".join(name for name, choice in HEADS.items() if choice.predictor)
        raise ModelError(f"head.name = {head!r}: can't be applied to new videos; heads that can: {able}")
    return kind


def write_model(
    out_url: str,
    spec: ModelSpec,
    backbone: tuple[nn.Module, BackboneSpec],
    head: Mapping[str, Tensor],
    classifier: SegmentClassifier | None,
) -> None:
    """Write a model; ``model.json`` comes last, so that a folder with it is whole.

    Args:
        out_url: folder or URL.
        spec: what is known of it.
        backbone: the encoder.
        head: the head's weights.
        classifier: see :class:`LoadedModel`.

    Raises:
        StorageError: it can't be written.
    """
    module, backbone_spec = backbone
    tensors = {f"{NETWORK}{name}": value.detach().cpu().contiguous() for name, value in head.items()}
    if classifier is not None:
        tensors |= {
            f"{CLASSIFIER}{name}": torch.from_numpy(getattr(classifier, name)).contiguous()
            for name in _CLASSIFIER_TENSORS
        }
    files = {
        ENCODER_NAME: backbone_bytes(module.state_dict(), backbone_spec),
        HEAD_NAME: safetensors.torch.save(tensors, metadata={"format": FORMAT}),
    }
    storage.make_folder(out_url)
    storage.remove(storage.join(out_url, MODEL_NAME))
    for name, data in files.items():
        storage.write_bytes(storage.join(out_url, name), data)
    listed = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    document = {"format": FORMAT, **spec.to_tree(), "files": listed}
    storage.write_bytes(storage.join(out_url, MODEL_NAME), dump_json(document))


def load_model(url: str) -> LoadedModel:
    """Read a model strictly: every tensor must be there and no other, and the two networks must fit.

    Args:
        url: folder or URL that ``pal-transfer export`` wrote.

    Raises:
        ModelError: it isn't one, is damaged, or head and encoder don't fit.
        BackboneError: the encoder's file is damaged.
        StorageError: it can't be read.
    """
    place = storage.redact(url)
    try:
        data = storage.read_bytes(storage.join(url, MODEL_NAME), retry=storage.AT_START)
    except storage.StorageNotFoundError:
        raise ModelError(
            f"{place}: no {MODEL_NAME} in it; make a model with: pal-transfer export RUN --encoder E --out {place}"
        ) from None
    spec, files = _parse(data, f"{place}/{MODEL_NAME}")
    head = _read_checked(url, HEAD_NAME, files)
    _read_checked(url, ENCODER_NAME, files)
    backbone, backbone_spec = load_backbone(storage.join(url, ENCODER_NAME))
    check_fit(feature_width(backbone, backbone_spec, spec.sampling), spec.feature_dim, place)
    network, classifier = _build(spec, head, f"{place}/{HEAD_NAME}")
    return LoadedModel(
        spec=spec,
        backbone=backbone,
        backbone_spec=backbone_spec,
        network=network,
        classifier=classifier,
        digest=hashlib.sha256(data).hexdigest(),
    )


def check_fit(encoder: int, head: int, where: str) -> None:
    """Refuse a head and an encoder of different widths.

    Args:
        encoder: size of the encoder's features.
        head: size of the features that the head was trained on.
        where: named in the error.

    Raises:
        ModelError: they differ.
    """
    if encoder != head:
        raise ModelError(
            f"{where}: the encoder gives feature_dim = {encoder}, the head was trained on features of {head}; "
            "export the head with the encoder that made its features (--encoder)"
        )


def strict_load(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load weights strictly and set eval mode, gradients off.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if odd:
        first = odd[0]
        raise ModelError(
            f"{where}: weights don't fit the head: {len(odd)} tensors differ, first {first}: "
            f"{found.get(first, 'missing')} in the file, {wanted.get(first, 'none')} in the network"
        )
    module.load_state_dict(dict(tensors), strict=True)
    module.requires_grad_(False).eval()


def _parse(data: bytes, where: str) -> tuple[ModelSpec, dict[str, Any]]:
    try:
        tree = json.loads(data)
        if tree["format"] != FORMAT:
            raise ModelError(f"{where}: format is {tree['format']!r}, this version reads {FORMAT!r}")
        return ModelSpec.from_tree(tree), dict(tree["files"])
    except (ConfigError, ModelError) as error:
        raise ModelError(str(error) if isinstance(error, ModelError) else f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{where}: damaged: {type(error).__name__}: {error}") from None


def _read_checked(url: str, name: str, files: Mapping[str, Any]) -> bytes:
    place = storage.redact(storage.join(url, name))
    if name not in files:
        raise ModelError(f"{storage.redact(url)}/{MODEL_NAME}: damaged: files lacks {name}")
    try:
        data = storage.read_bytes(storage.join(url, name))
    except storage.StorageNotFoundError:
        raise ModelError(f"{place}: missing; export the model again") from None
    if hashlib.sha256(data).hexdigest() != files[name].get("sha256"):
        raise ModelError(f"{place}: not the file that {MODEL_NAME} names; export the model again")
    return data


def _build(spec: ModelSpec, data: bytes, where: str) -> tuple[nn.Module, SegmentClassifier | None]:
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{where}: not a safetensors file: {error}") from None
    strange = sorted(name for name in tensors if not name.startswith((NETWORK, CLASSIFIER)))
    if strange:
        raise ModelError(f"{where}: unexpected tensor {strange[0]}")
    own = () if spec.classifier else spec.classes
    network = predictor_of(spec.reading.head.name).network(spec.reading.head, spec.feature_dim, own)
    strict_load(network, _below(NETWORK, tensors), where)
    given = _below(CLASSIFIER, tensors)
    if set(given) != (set(_CLASSIFIER_TENSORS) if spec.classifier else set()):
        raise ModelError(f"{where}: holds {sorted(given) or 'no tensors'} for the classifier of segments")
    if not spec.classifier:
        return network, None
    shapes = [tuple(given[name].shape) for name in _CLASSIFIER_TENSORS]
    count, width = len(spec.classes), spec.feature_dim
    if shapes != [(count, width), (count,), (width,), (width,)]:
        raise ModelError(
            f"{where}: the classifier's shapes {shapes} don't fit {count} classes of {width} channels"
        )
    return network, SegmentClassifier(spec.classes, *(given[name].numpy() for name in _CLASSIFIER_TENSORS))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
