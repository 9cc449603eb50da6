"""Freed memory is there for the next step."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import torch
from pal_ds.distributed.cpu_malloc import keep_freed

if "keep" in sys.argv:
    assert keep_freed()

def step():
    kept = [torch.ones(12 << 20) for _ in range(3)]  # 48 MB each

for _ in range(6):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library can't be told")
def test_steps_find_the_memory_of_those_before() -> None:
    def faults(*words: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, *words], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    assert 10 * faults("keep") < faults()
