"""Rows to Weights & Biases, where asked for: one run there for all starts, and never a reason to stop.

Without a key or a network the run is kept in ``wandb/`` below the log folder (mode ``offline``); ``wandb sync``
brings it up later.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pal_ds import storage

log = logging.getLogger(__name__)

#: Object in the run folder that holds the run's id there, so that a resume goes on with the same curves.
RUN_ID = "wandb_id.txt"
_INIT_SECONDS = 30.0


class WandbLog:
    """One run at Weights & Biases.

    Args:
        project: its project.
        run_url: the run folder; its name is the run's name.
        folder: local folder for the client's files.
        config: the resolved config, for the run's page.
    """

    def __init__(self, project: str, run_url: str, folder: Path, config: Mapping[str, Any]) -> None:
        wandb: Any = importlib.import_module("wandb")
        # Without a key the client would ask for one on the terminal.
        known = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").exists()
        mode = os.environ.get("WANDB_MODE") or ("online" if known else "offline")
        arguments: dict[str, Any] = {
            "project": project,
            "id": _run_id(run_url),
            "name": run_url.rstrip("/").rsplit("/", 1)[-1],
            "dir": str(folder),
            "config": dict(config),
            "resume": "allow",
            "settings": wandb.Settings(init_timeout=_INIT_SECONDS, silent=True, console="off"),
        }
        self._run: Any = None
        for attempt in dict.fromkeys((mode, "offline")):
            try:
                self._run = wandb.init(mode=attempt, **arguments)
                break
            except Exception as error:
                log.warning("Weights & Biases, %s: %s", attempt, error)
                wandb.teardown()  # its service holds on to the run's id
                mode = "offline"
        if self._run is None:
            log.warning("no rows go to Weights & Biases in this start")
        elif mode == "offline":
            # A folder for logs on their way to an object store is gone after the run; they go there with the rest.
            kept = folder if storage.is_local(run_url) else f"(a copy of {storage.redact(run_url)})"
            log.warning("Weights & Biases is offline: wandb sync %s/wandb/offline-run-* brings it up", kept)

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a row's finite numbers at its step."""
        if self._run is None:
            return
        numbers = {
            name: value
            for name, value in row.items()
            if isinstance(value, (int, float)) and name != "step" and math.isfinite(value)
        }
        try:
            self._run.log(numbers, step=row["step"])
        except Exception as error:
            log.warning("row of step %s not logged at Weights & Biases: %s", row["step"], error)

    def close(self) -> None:
        """Bring up what is left, and end."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:
            log.warning("Weights & Biases not closed: %s", error)


def _run_id(run_url: str) -> str:
    """Return the run's id there, made at its first start."""
    url = storage.join(run_url, RUN_ID)
    try:
        return storage.read_bytes(url, retry=storage.AT_START).decode().strip()
    except storage.StorageNotFoundError:
        made = secrets.token_hex(6)
        storage.write_bytes(url, made.encode() + b"\n", retry=storage.AT_START)
        return made
