"""What ``model.backbone=hf:…`` may name: the encoders of ``transformers`` that are known, and what each one takes.

An encoder is described by its published ``config.json``. The text of it becomes part of the run's config
(``model.encoder``), so that checkpoints and exported files can be read without the folder it came from. Only options
are read here; no class is ever taken from a file, so ``auto_map`` and the like have no effect.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pal_ds.config.base import ConfigError, check

PREFIX = "hf:"
CONFIG_NAME = "config.json"
_PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_TIMESFORMER = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
#: Of a published config: words about labels, places and versions, which say nothing about the network.
_NOISE = {
    *("id2label", "label2id", "architectures", "auto_map", "_name_or_path", "torch_dtype", "dtype"),
    *("transformers_version", "problem_type", "_attn_implementation"),
}
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "dropout")
POOLINGS = ("mean", "cls", "attentive", "last4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One model type of ``transformers`` as the options of a run see it; numbers are its config's defaults.

    Attributes:
        video: takes clips; else it takes images and is applied to each frame.
        frames: option of its config that holds the frames of a clip, and the default; None: any number.
        size: option of its config that holds the side of the input, and the default.
        patch: side of a patch.
        tubelet: frames of a patch.
        layers: transformer blocks.
        fixed_frames: takes that number of frames only; else any multiple of the tubelet.
        fixed_size: takes that side only; else any multiple of the patch.
        cls: has a class token.
        colours: mean and deviation of its input where no preprocessor config says otherwise.
    """

    video: bool
    frames: tuple[str, int] | None
    size: tuple[str, int]
    patch: int
    tubelet: int = 1
    layers: int = 12
    fixed_frames: bool = True
    fixed_size: bool = True
    cls: bool = True
    colours: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET


FAMILIES: dict[str, Family] = {
    "videomae": Family(
        video=True, frames=("num_frames", 16), size=("image_size", 224), patch=16, tubelet=2, cls=False
    ),
    "timesformer": Family(
        video=True, frames=("num_frames", 8), size=("image_size", 224), patch=16, colours=_TIMESFORMER
    ),
    "vivit": Family(
        video=True, frames=("num_frames", 32), size=("image_size", 224), patch=16, tubelet=2, colours=_HALF
    ),
    # Its positions are rotations by index, so other lengths and sizes are new indices, not other weights.
    "vjepa2": Family(
        video=True,
        frames=("frames_per_clip", 64),
        size=("crop_size", 256),
        patch=16,
        tubelet=2,
        layers=24,
        fixed_frames=False,
        fixed_size=False,
        cls=False,
    ),
    # Its positions are interpolated to the size of the input, as published.
    "dinov2": Family(video=False, frames=None, size=("image_size", 224), patch=14, fixed_size=False),
    "clip_vision_model": Family(video=False, frames=None, size=("image_size", 224), patch=32, colours=_CLIP),
}


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An encoder as a run's config holds it.

    Attributes:
        config: its published config without labels and versions.
        mean: of its input's channels.
        std: deviation of its input's channels.
    """

    config: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def kind(self) -> str:
        """Its model type."""
        return str(self.config["model_type"])

    @property
    def family(self) -> Family:
        """What its model type takes."""
        return FAMILIES[self.kind]

    @property
    def layers(self) -> int:
        """Transformer blocks."""
        return int(self.config.get("num_hidden_layers", self.family.layers))

    @property
    def size(self) -> int:
        """Side of the input it was made for, in pixels."""
        name, default = self.family.size
        return int(self.config.get(name, default))

    @property
    def frames(self) -> int:
        """Frames of a clip it was made for; 16 for those that take images."""
        name, default = self.family.frames or ("", 16)
        return int(self.config.get(name, default))

    @property
    def patch(self) -> int:
        """Side of a patch, in pixels."""
        tubelet = self.config.get("tubelet_size")
        if isinstance(tubelet, list):
            return int(tubelet[-1])
        return int(self.config.get("patch_size", self.family.patch))

    @property
    def tubelet(self) -> int:
        """Frames of a patch."""
        found = self.config.get("tubelet_size", self.family.tubelet)
        return int(found[0] if isinstance(found, list) else found)

    @property
    def dropout(self) -> bool:
        """Whether its config asks for dropout inside blocks."""
        return any(float(self.config.get(name) or 0) > 0 for name in _DROPOUTS)

    def text(self) -> str:
        """The same as one line of JSON, equal for equal encoders."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))


def names_encoder(backbone: str) -> bool:
    """Tell whether ``model.backbone`` asks for an encoder of ``transformers``."""
    return backbone.startswith(PREFIX)


def encoder_of(text: str) -> Encoder:
    """Read the line that :meth:`Encoder.text` made.

    Raises:
        ConfigError: it is no such line, or of an unknown model type.
    """
    try:
        tree = json.loads(text)
        return Encoder(
            _known(tree["config"], "model.encoder", text), *(tuple(tree[x]) for x in ("mean", "std"))
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("model.encoder", text[:80], "is filled in by the program; remove it") from error


def read_encoder(backbone: str, known: str = "") -> str:
    """Return the line that describes the encoder of ``model.backbone``.

    Args:
        backbone: ``hf:`` and a folder or its ``config.json``; where neither exists, ``known`` counts.
        known: the line, where a run's config already holds it.

    Raises:
        ConfigError: there is no such encoder, it is of an unknown model type, or ``known`` is of another.
    """
    place = Path(backbone.removeprefix(PREFIX)).expanduser()
    path = place / CONFIG_NAME if place.is_dir() else place
    if backbone == PREFIX or not path.is_file():
        check(
            bool(known),
            "model.backbone",
            backbone,
            f"no such {CONFIG_NAME}; give hf: and a local folder with {CONFIG_NAME}, or that file",
        )
        return encoder_of(known).text()
    config = _known(_json(path, backbone), "model.backbone", backbone)
    mean, std = FAMILIES[config["model_type"]].colours
    for name in _PREPROCESSORS:
        if (path.parent / name).is_file():
            said = _json(path.parent / name, backbone)
            mean, std = tuple(said.get("image_mean", mean)), tuple(said.get("image_std", std))
            break
    found = Encoder(config, mean, std).text()
    check(
        not known or encoder_of(known).text() == found,
        "model.backbone",
        backbone,
        f"its {CONFIG_NAME} is not the one in model.encoder; remove model.encoder",
    )
    return found


def pooled_layer(pooling: str) -> int | None:
    """Return K of ``layer:K``; None for other poolings."""
    word, _, number = pooling.partition(":")
    return int(number) if word == "layer" and number.isdecimal() else None


def _known(config: Mapping[str, Any], name: str, value: str) -> dict[str, Any]:
    kind = config.get("model_type")
    if kind == "clip" and isinstance(config.get("vision_config"), Mapping):
        return _known({"model_type": "clip_vision_model", **config["vision_config"]}, name, value)
    check(
        kind in FAMILIES,
        name,
        value[:200],
        f"model type {kind!r} is not supported; use one of {', '.join(FAMILIES)}",
    )
    return {key: each for key, each in config.items() if key not in _NOISE}


def _json(path: Path, backbone: str) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "model.backbone", backbone, f"{path.name} is not readable as JSON: {error}"
        ) from error
    check(isinstance(tree, dict), "model.backbone", backbone, f"{path.name} holds no JSON object")
    return dict(tree)
