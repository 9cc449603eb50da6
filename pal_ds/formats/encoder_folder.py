"""The weights of a published encoder: a local folder with ``config.json`` beside safetensors or tensors-only files.

A weights file may be cut into pieces that an index lists; its names are names in this folder and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

from pal_ds.config.base import ConfigError
from pal_ds.config.encoders import PREFIX

#: In the order of preference; one with an index is read by it.
_NAMES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_OTHERS = (".safetensors", ".bin", ".pth", ".pt")


def weights_files(backbone: str) -> list[Path]:
    """Return the files with the weights of ``model.backbone``; none where it names a ``config.json`` alone.

    Args:
        backbone: ``hf:`` and a folder or a file.

    Raises:
        ConfigError: an index that lists other than files of the folder, or several files that may be meant.
    """
    folder = Path(backbone.removeprefix(PREFIX)).expanduser()
    if backbone == PREFIX or not folder.is_dir():
        return []
    for name in _NAMES:
        path = folder / name
        if path.is_file():
            return _listed(path, backbone) if name.endswith(".json") else [path]
    found = sorted(path for path in folder.iterdir() if path.suffix in _OTHERS and path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(
            "model.backbone",
            backbone,
            f"holds several weights files ({names}); keep one, or name one as model.weights with "
            f"model.backbone=hf:{folder}/config.json",
        )
    return found


def _listed(index: Path, backbone: str) -> list[Path]:
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            "model.backbone", backbone, f"{index.name} is not readable: {error!r:.100}"
        ) from error
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ConfigError("model.backbone", backbone, f"{index.name} lists files outside of the folder")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise ConfigError("model.backbone", backbone, f"{index.name} lists {missing[0]}, which is not there")
    return sorted(index.parent / name for name in names)


def read_files(files: list[Path]) -> list[tuple[bytes, str]]:
    """Return content and name of weights files, for ``pal_ds.models.read_weights``."""
    return [(path.read_bytes(), str(path)) for path in files]
