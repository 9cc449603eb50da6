"""Which device a run takes, what it refuses instead of training on the CPU unasked, and how the device computes."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path

import pytest
import torch

from pal_ds.config import ConfigError
from pal_ds.config.data import DataConfig, automatic_workers
from pal_ds.config.run import RunSection
from pal_ds.distributed.arithmetic import set_arithmetic
from pal_ds.distributed.device import choose_device


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make up a machine: signs of a driver, what torch says, how many GPUs it sees."""

    def make(*, driver: bool, usable: bool, gpus: int = 1, build: str | None = "13.0", says: str = "") -> str:
        if driver:
            (tmp_path / "dev").mkdir(exist_ok=True)
            (tmp_path / "dev" / "nvidia0").touch()

        def is_available() -> bool:
            if says:
                warnings.warn(says, stacklevel=1)
            return usable

        monkeypatch.setattr(torch.cuda, "is_available", is_available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.version, "cuda", build)
        return str(tmp_path)

    return make


def test_a_gpu_is_taken_where_there_is_one_and_the_cpu_where_there_is_none(machine) -> None:
    assert choose_device("auto", environment={}, root=machine(driver=False, usable=False)) == "cpu"
    root = machine(driver=True, usable=True)
    assert choose_device("auto", environment={}, root=root) == "cuda"
    assert choose_device("cuda", environment={}, root=root) == "cuda"
    assert choose_device("cpu", environment={"DS_ACCELERATOR": "cpu"}, root=root) == "cpu"


def test_a_gpu_that_torch_cannot_use_is_an_error_with_the_reason(machine) -> None:
    old = "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020)."
    root = machine(driver=True, usable=False, says=old)
    with pytest.raises(
        ConfigError, match=r"run\.device = 'auto'.*too old \(found version 12020\)\. Install a CUDA"
    ):
        choose_device("auto", environment={}, root=root)
    root = machine(driver=True, usable=False, build=None)
    with pytest.raises(ConfigError, match=r"is a build without CUDA.*or set run\.device=cpu"):
        choose_device("auto", environment={}, root=root)
    assert choose_device("cpu", environment={}, root=root) == "cpu"
    assert choose_device("auto", environment={"CUDA_VISIBLE_DEVICES": ""}, root=root) == "cpu"


def test_cuda_is_refused_where_there_is_none(machine) -> None:
    with pytest.raises(ConfigError, match=r"run\.device = 'cuda': torch sees no GPU"):
        choose_device("cuda", environment={}, root=machine(driver=False, usable=False))


def test_an_exported_accelerator_is_not_obeyed_in_silence(machine) -> None:
    root = machine(driver=True, usable=True)
    with pytest.raises(
        ConfigError, match=r"DS_ACCELERATOR = 'cpu': is exported.*unset it, or set run\.device=cpu"
    ):
        choose_device("auto", environment={"DS_ACCELERATOR": "cpu"}, root=root)


def test_more_ranks_than_gpus_are_an_error(machine) -> None:
    root = machine(driver=True, usable=True, gpus=1)
    assert choose_device("auto", 0, environment={}, root=root) == "cuda"
    with pytest.raises(ConfigError, match=r"rank 1 of this host finds 1 GPU: .* or set run\.device=cpu"):
        choose_device("auto", 1, environment={}, root=root)


def test_arithmetic_is_what_the_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    usual = RunSection(dir="/r")
    try:
        set_arithmetic(dataclasses.replace(usual, deterministic=True, tf32=False))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        set_arithmetic(usual)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(ConfigError, match=r"run\.device = 'gpu': use one of auto, cuda, cpu"):
        RunSection(dir="/r", device="gpu")


def test_workers_are_the_cores_of_a_rank_less_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [automatic_workers(cores, ranks) for cores, ranks in ((16, 1), (128, 8), (2, 2), (1, 1))] == [
        15,
        15,
        1,
        1,
    ]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(32)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert DataConfig().workers == "auto"
    assert DataConfig().processes == 7
    assert DataConfig(workers=3).processes == 3
    for wrong in ("many", -1):
        with pytest.raises(ConfigError, match=r"data\.workers = .*: use auto, or a whole number"):
            DataConfig(workers=wrong)
