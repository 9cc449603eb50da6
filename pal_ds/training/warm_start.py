"""What a run's backbone starts from: given weights, those of an encoder's folder, or random ones."""

from __future__ import annotations

import logging

from torch import Tensor

from pal_ds import storage
from pal_ds.config import Config, ConfigError
from pal_ds.formats.encoder_folder import read_files, weights_files
from pal_ds.models import Objective, read_weights

log = logging.getLogger(__name__)


def warm_start(objective: Objective, config: Config) -> None:
    """Load what the config names into a fresh objective; nothing where it names nothing.

    Raises:
        ConfigError: two sources of weights.
        WeightsError: they do not fit.
        StorageError: they can't be read.
    """
    model = config.model
    url, files = model.weights, weights_files(model.backbone) if model.encoder else []
    if url and files:
        raise ConfigError(
            "model.weights",
            url,
            f"{model.backbone} holds weights too; keep one, or set model.backbone={model.backbone}/config.json",
        )
    if url:
        state = read_weights(storage.read_bytes(url, retry=storage.AT_START), source=url)
        objective.warm_start(state, source=url)
    elif files:
        pieces: dict[str, Tensor] = {}
        for content, name in read_files(files):
            pieces |= read_weights(content, source=name)
        objective.warm_start(pieces, source=str(files[0]))
    elif model.encoder:
        log.warning("%s: no weights beside its config, so the encoder starts random", model.backbone)
    if model.encoder and config.synthesis.views > 1:
        _warn_of_first_losses(config)


def _warn_of_first_losses(config: Config) -> None:
    """Say so where a transformer's first losses would compare its keys with noise."""
    queued = config.objective.negatives != "batch"
    if queued and not config.queue.mask_unfilled:
        log.warning(
            "queue.mask_unfilled = false: a transformer maps all clips to nearly one direction at first, far from "
            "the random rows of a new queue, so that the first losses are near 0 and say nothing; set "
            "queue.mask_unfilled=true, with objective.negatives=both and model.head_bn=true"
        )
    elif config.objective.negatives == "queue":
        log.warning(
            "objective.negatives = 'queue': with queue.mask_unfilled=true the first step has nothing to contrast "
            "with; set objective.negatives=both"
        )
