"""With how many threads a rank computes on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from pal_ds.distributed.ranks import start
start(30.0)
print("THREADS", torch.get_num_threads())
"""


@pytest.mark.parametrize("asked", [None, "1"])
def test_the_users_number_of_threads_is_kept_and_without_it_the_cores_are_used(asked: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if asked is not None:
        environment["OMP_NUM_THREADS"] = asked
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"THREADS {asked or len(os.sched_getaffinity(0))}" in done.stdout
