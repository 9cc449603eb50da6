"""``--profile``: a Chrome trace of a few optimizer steps, for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

import gzip
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from pal_ds import storage
from pal_ds.distributed.ranks import Ranks

log = logging.getLogger(__name__)

FOLDER = "profile"
_WARM_UP_STEPS = 3


class StepProfiler:
    """Records ``steps`` optimizer steps of this rank, a few steps after the start, and writes them once.

    The trace goes to ``profile/steps-<first>-<last>-rank-<rank>.json.gz`` in the run folder. While recording, steps
    are slower than they are.

    Args:
        run_url: the run folder.
        ranks: this process.
        steps: how many to record.
        start: the step that training starts at.
    """

    def __init__(self, run_url: str, ranks: Ranks, *, steps: int, start: int) -> None:
        self._run_url = run_url
        self._ranks = ranks
        self._first = start + _WARM_UP_STEPS + 1
        self._last = start + _WARM_UP_STEPS + steps
        self._seen = start
        self._profile: Any = None
        self._written = False

    def step_done(self, step: int) -> None:
        """Note that a step has ended; starts and ends the recording."""
        self._seen = step
        if step == self._first - 1:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if self._ranks.device.type == "cuda":
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profile = torch.profiler.profile(activities=activities)
            self._profile.start()
        elif step == self._last:
            self.close()

    def close(self) -> None:
        """End the recording and write it; a run that ended before it began has none, which is told."""
        if self._profile is None:
            if not self._written:
                log.warning("nothing profiled: the run ended before step %d", self._first)
            return
        profile, self._profile = self._profile, None
        profile.stop()
        self._written = True
        name = f"steps-{self._first:08d}-{self._seen:08d}-rank-{self._ranks.rank}.json.gz"
        url = storage.join(self._run_url, FOLDER, name)
        with tempfile.TemporaryDirectory(prefix="pal-profile-") as folder:
            path = Path(folder) / "trace.json"
            profile.export_chrome_trace(str(path))
            data = gzip.compress(path.read_bytes(), compresslevel=5)
        try:
            storage.write_bytes(url, data)
            log.info("profile written: %s", storage.redact(url))
        except (storage.StorageError, OSError) as error:
            log.warning("profile not written: %s", error)
