"""What the benchmarks of this folder share: a batch of noise, where they run, how they call the trainer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from pal_ds.config import Config
from pal_ds.models import ViewBatch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent


def noise_batch(config: Config, videos: int, device: torch.device | str = "cpu") -> ViewBatch:
    """Views of Gaussian noise in the shapes that a config asks for; what they show does not change their cost."""
    synthesis = config.synthesis
    shape = (videos, synthesis.view_clips, 3, synthesis.clip_frames, synthesis.size, synthesis.size)
    length = (synthesis.region_min + synthesis.region_max) // 2
    region = torch.tensor([[synthesis.view_clips - length, length]] * videos, device=device)
    keys = [(torch.randn(shape, device=device), region) for _ in range(synthesis.views - 1)]
    return ViewBatch(
        query_bjcthw=torch.randn(shape, device=device),
        query_region_b2=region,
        key_bjcthw=keys[0][0] if keys else None,
        key_region_b2=region if keys else None,
        more_keys=tuple(keys[1:]),
    )


def pretrain(
    config: Path, run: Path, *settings: str, core: int | None = None
) -> tuple[int, list[dict[str, Any]], dict[str, Any], str]:
    """Run ``launch/pretrain.py`` as one process; return its status, metrics rows, STATUS.json and stderr.

    Args:
        config: the file.
        run: the run folder.
        settings: words over the file's.
        core: keep to one core of the machine.
    """
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    words = [*pinned, sys.executable, "launch/pretrain.py", "--config", str(config), f"run.dir={run}"]
    words += settings
    done = subprocess.run(words, check=False, cwd=ROOT, capture_output=True, text=True)
    log, status = run / "metrics.jsonl", run / "STATUS.json"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    state = json.loads(status.read_text()) if status.exists() else {}
    return done.returncode, rows, state, done.stderr


def finite(value: Any) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
