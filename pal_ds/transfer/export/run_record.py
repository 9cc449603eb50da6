"""How an encoder was trained, gathered for its model card; all files but those of the checkpoint may be missing."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pal_ds import storage
from pal_ds.formats.shardset import Manifest, ShardSetError, load_manifest
from pal_ds.transfer.backbone_export import find_checkpoint
from pal_ds.transfer.random_backbone import PREFIX as RANDOM

logger = logging.getLogger("pal_ds.transfer")
_NOT_FIGURES = ("val_loss_error", "val_samples", "val_seconds", "val_negatives")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Clips and hours of one split of the data set."""

    name: str
    clips: int
    hours: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One held-out figure beside its controls.

    Attributes:
        name: as in ``metrics.jsonl``, without ``val_``.
        value: of the exported step or the last validation before it.
        untrained: at step 0; None where there was no such validation.
        chance: of a blind guess; None where that is not known.
        error: standard error of ``value``; None where that is not known.
    """

    name: str
    value: float
    untrained: float | None
    chance: float | None
    error: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How an encoder was trained.

    Attributes:
        config: the run's sections.
        step: optimizer steps done.
        dataset: last part of the shard set's URL; places and buckets are nobody else's business.
        manifest: digest of the shard set; empty where it isn't recorded.
        splits: what the set holds; empty where it can't be read any more.
        validated: step of the last validation; None where there was none.
        figures: held-out figures.
        losses: training loss of the first and of the last logged steps; None where none were logged.
        environment: ``environment.json``.
    """

    config: Mapping[str, Any]
    step: int
    dataset: str
    manifest: str
    splits: tuple[Split, ...]
    validated: int | None
    figures: tuple[Figure, ...]
    losses: tuple[float, float] | None
    environment: Mapping[str, Any]


def read_record(source_url: str) -> RunRecord | None:
    """Return what is known of a run or checkpoint; None for an exported file or an untrained network.

    Raises:
        BackboneError: no committed checkpoint.
        StorageError: it can't be read.
    """
    if source_url.startswith(RANDOM) or source_url.endswith(".safetensors"):
        return None
    checkpoint = find_checkpoint(source_url)
    state = json.loads(storage.read_bytes(storage.join(checkpoint, "state.json")))
    run_url = checkpoint.rsplit("/checkpoints/", 1)[0] if "/checkpoints/" in checkpoint else checkpoint
    rows = [row for row in _lines(run_url, "metrics.jsonl") if row.get("step", 0) <= state["step"]]
    validated, figures = _figures(rows)
    shards = str(state["config"].get("data", {}).get("shards", ""))
    return RunRecord(
        config=state["config"],
        step=int(state["step"]),
        dataset=shards.rstrip("/").rsplit("/", 1)[-1] or "unknown",
        manifest=str(state.get("identity", {}).get("manifest", "")),
        splits=_splits(shards),
        validated=validated,
        figures=figures,
        losses=_losses(rows),
        environment=_environment(run_url),
    )


def _figures(rows: Sequence[Mapping[str, Any]]) -> tuple[int | None, tuple[Figure, ...]]:
    held_out = [row for row in rows if row.get("val_loss") is not None]
    if not held_out:
        return None, ()
    last = held_out[-1]
    first = held_out[0] if held_out[0]["step"] == 0 and held_out[0] is not last else {}
    found = []
    for key, value in last.items():
        control = "chance" in key or key.endswith("_error") or key in _NOT_FIGURES
        if not key.startswith("val_") or control or not isinstance(value, (int, float)):
            continue
        name = key.removeprefix("val_")
        chance = last.get(f"val_chance_{name}", last.get(f"val_{name}_chance"))
        found.append(
            Figure(
                name=name,
                value=float(value),
                untrained=_number(first.get(key)),
                chance=_number(chance),
                error=_number(last.get(f"val_{name}_error")),
            )
        )
    return int(last["step"]), tuple(found)


def _losses(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    losses = [float(row["loss"]) for row in rows if row.get("loss") is not None and "val_loss" not in row]
    if not losses:
        return None
    few = max(1, len(losses) // 10)
    return sum(losses[:few]) / few, sum(losses[-few:]) / few


def _splits(shards_url: str) -> tuple[Split, ...]:
    try:
        manifest: Manifest = load_manifest(shards_url)
    except (storage.StorageError, ShardSetError, ValueError) as error:
        logger.warning("the shard set can't be read, so the card tells no counts: %s", error)
        return ()
    return tuple(
        Split(name=name, clips=split.clips, hours=split.seconds / 3600)
        for name, split in sorted(manifest.splits.items())
    )


def _environment(run_url: str) -> dict[str, Any]:
    try:
        found = json.loads(storage.read_bytes(storage.join(run_url, "environment.json")))
    except storage.StorageNotFoundError:
        return {}
    return dict(found)


def _lines(url: str, name: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a file; a last line cut off by a kill is passed over."""
    try:
        text = storage.read_bytes(storage.join(url, name)).decode(errors="replace")
    except storage.StorageNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
