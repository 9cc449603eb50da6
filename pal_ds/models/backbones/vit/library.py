"""The only place that touches ``transformers``: its networks from a config, and from published tensors."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.config.encoders import Encoder

_MODELS = "transformers.models"
#: Config class, network class, and what the network is built without.
_CLASSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "videomae": ("videomae", "VideoMAE", {}),
    "timesformer": ("timesformer", "Timesformer", {}),
    "vivit": ("vivit", "Vivit", {"add_pooling_layer": False}),
    "vjepa2": ("vjepa2", "VJEPA2", {}),
    "dinov2": ("dinov2", "Dinov2", {}),
    "clip_vision_model": ("clip", "CLIPVision", {}),
}
#: What of a config is this project's business (drop path) or never used (the predictor, masked patches).
_OVERRIDES: dict[str, dict[str, Any]] = {
    "timesformer": {"drop_path_rate": 0},
    "vjepa2": {"drop_path_rate": 0.0, "pred_num_hidden_layers": 1},
    "dinov2": {"drop_path_rate": 0.0, "use_mask_token": False},
}


def build_network(encoder: Encoder) -> nn.Module:
    """Build the library's network with random weights.

    Raises:
        ConfigError: ``transformers`` is missing, or refuses the config.
    """
    config, kind, without = _resolve(encoder)
    with _refusals(encoder):
        network: nn.Module = kind(config, **without)
    return network


def load_network(encoder: Encoder, state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, list[str]]]:
    """Build the library's network with published tensors; names of older releases are the library's business.

    Args:
        encoder: its config.
        state: tensors by the library's names, of any release.

    Returns:
        The network, and names that were ``missing``, ``unknown`` or ``of another shape``.

    Raises:
        ConfigError: ``transformers`` is missing, or refuses the config.
    """
    config, kind, without = _resolve(encoder)
    with _refusals(encoder), _silent():
        network, found = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            **without,
        )
    reshaped = [
        f"{name} {tuple(given)} instead of {tuple(own)}"
        for name, given, own in sorted(found["mismatched_keys"])
    ]
    problems = {
        "missing": sorted(found["missing_keys"]),
        "unknown": sorted(found["unexpected_keys"]),
        "of another shape": reshaped,
    }
    return network, problems


def _resolve(encoder: Encoder) -> tuple[Any, Any, dict[str, Any]]:
    folder, stem, without = _CLASSES[encoder.kind]
    try:
        configs = importlib.import_module(f"{_MODELS}.{folder}.configuration_{folder}")
        networks = importlib.import_module(f"{_MODELS}.{folder}.modeling_{folder}")
    except ImportError as error:
        raise ConfigError(
            "model.backbone", f"hf:{encoder.kind}", f"needs a package: pip install 'pal-ds[hf]' ({error})"
        ) from error
    with _refusals(encoder):
        config = getattr(configs, f"{stem}Config")(**encoder.config | _OVERRIDES.get(encoder.kind, {}))
    return config, getattr(networks, f"{stem}Model"), without


@contextlib.contextmanager
def _refusals(encoder: Encoder) -> Iterator[None]:
    """Within it, what the library says of a config becomes an error that names the option."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        text = " ".join(str(error).split())[:200]
        raise ConfigError("model.backbone", f"hf:{encoder.kind}", f"its config is refused: {text}") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Within it, the library prints neither a bar nor a report: what is wrong is told as an error."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
