"""Checkpoints: whole or not there, free of pickle, independent of world size (docs/formats.md, "Checkpoint").

A checkpoint is a folder ``checkpoints/step-XXXXXXXX`` with ``model.safetensors``, ``optimizer.safetensors`` and
``state.json``, each published atomically, and ``COMMITTED``, written last with the sizes and hashes of the
others. A folder without ``COMMITTED`` does not exist for a reader; saving the same step again overwrites it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any

import safetensors.torch
from torch import Tensor

from pal_ds import storage
from pal_ds.storage import RetryPolicy

FORMAT = "pal-checkpoint/1"
FOLDER = "checkpoints"
COMMITTED = "COMMITTED"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
_NAME = re.compile(r"step-(\d{8})")


class CheckpointError(Exception):
    """A committed checkpoint whose files do not fit together."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The training state between two optimizer steps, on the CPU.

    Attributes:
        step: optimizer steps done.
        model: query encoder, key encoder, BN buffers, queue and pointer.
        optimizer: Adam's moments and step by parameter name.
        state: everything else, as JSON values.
    """

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def checkpoint_name(step: int) -> str:
    """Return the folder name of the checkpoint after ``step`` optimizer steps."""
    return f"step-{step:08d}"


def save(run_url: str, snapshot: Snapshot, *, retry: RetryPolicy = storage.DEFAULT_RETRY) -> int:
    """Write a checkpoint and commit it.

    Returns:
        The number of bytes written.

    Raises:
        StorageError: after the retry budget; no commit marker exists then.
        OSError: the local disk is full.
    """
    folder = storage.join(run_url, FOLDER, checkpoint_name(snapshot.step))
    marker = storage.join(folder, COMMITTED)
    storage.remove(marker, retry=retry)
    document = {"format": FORMAT, **snapshot.state, "step": snapshot.step}
    payloads = {
        MODEL: safetensors.torch.save(snapshot.model, metadata={"format": FORMAT}),
        OPTIMIZER: safetensors.torch.save(snapshot.optimizer, metadata={"format": FORMAT}),
        STATE: (json.dumps(document, indent=1, sort_keys=True) + "\n").encode(),
    }
    files = {}
    for name, payload in payloads.items():
        storage.write_bytes(storage.join(folder, name), payload, retry=retry)
        files[name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    storage.write_bytes(
        marker, (json.dumps({"step": snapshot.step, "files": files}) + "\n").encode(), retry=retry
    )
    return sum(len(payload) for payload in payloads.values())


def load(run_url: str, step: int, *, retry: RetryPolicy = storage.DEFAULT_RETRY) -> Snapshot:
    """Read a committed checkpoint and check it against its marker.

    Raises:
        CheckpointError: a file differs from what was committed, or the format is another version's.
        StorageError: it can't be read.
    """
    folder = storage.join(run_url, FOLDER, checkpoint_name(step))
    marker = json.loads(storage.read_bytes(storage.join(folder, COMMITTED), retry=retry))
    payloads = {}
    for name in (MODEL, OPTIMIZER, STATE):
        payload = storage.read_bytes(storage.join(folder, name), retry=retry)
        expected = marker["files"][name]
        if len(payload) != expected["bytes"] or hashlib.sha256(payload).hexdigest() != expected["sha256"]:
            raise CheckpointError(f"{storage.redact(folder)}/{name}: differs from what {COMMITTED} lists")
        payloads[name] = payload
    state = json.loads(payloads[STATE])
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{storage.redact(folder)}: format {state.get('format')!r}, this version reads {FORMAT!r}"
        )
    return Snapshot(
        step=int(state["step"]),
        model=safetensors.torch.load(payloads[MODEL]),
        optimizer=safetensors.torch.load(payloads[OPTIMIZER]),
        state=state,
    )


def committed_steps(run_url: str, *, retry: RetryPolicy = storage.DEFAULT_RETRY) -> list[int]:
    """Return the steps of all committed checkpoints of a run, ascending."""
    folder = storage.join(run_url, FOLDER)
    steps = []
    for name in storage.list_names(folder, retry=retry):
        match = _NAME.fullmatch(name)
        if match and storage.exists(storage.join(folder, name, COMMITTED), retry=retry):
            steps.append(int(match[1]))
    return sorted(steps)


def prune(
    run_url: str, *, keep_last: int, keep_every: int, retry: RetryPolicy = storage.DEFAULT_RETRY
) -> list[int]:
    """Remove checkpoints beyond the newest ``keep_last`` and the multiples of ``keep_every``.

    The marker goes first, so that a removal cut short leaves an uncommitted folder, never a broken checkpoint.
    Older uncommitted leftovers go too.

    Returns:
        The steps that were removed.
    """
    folder = storage.join(run_url, FOLDER)
    committed = committed_steps(run_url, retry=retry)
    if not committed:
        return []
    kept = set(committed[-keep_last:])
    if keep_every:
        kept |= {step for step in committed if step % keep_every == 0}
    removed = []
    for name in storage.list_names(folder, retry=retry):
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) in kept or int(match[1]) > committed[-1]:
            continue
        storage.remove(storage.join(folder, name, COMMITTED), retry=retry)
        storage.remove(storage.join(folder, name), recursive=True, retry=retry)
        removed.append(int(match[1]))
    return sorted(removed)
