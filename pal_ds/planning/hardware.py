"""Data sheets: what accelerators and cores can do."""

from __future__ import annotations

import dataclasses

#: Videos that one core decodes per second: clips of 10 s at short side 128, made for fast decoding by pal-shard's
#: default profile, one core of an AMD EPYC (docs/sharding.md).
DECODE_PER_CORE = 65.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """An accelerator by its data sheet.

    Attributes:
        name: as people call it.
        tflops: dense peak of bf16 (V100: fp16) matrix arithmetic, TFLOP/s.
        bandwidth: of its memory, TB/s.
        memory_gib: of it, as CUDA reports it, GiB.
    """

    name: str
    tflops: float
    bandwidth: float
    memory_gib: float


GPUS = {
    "h200": Gpu(name="H200", tflops=989, bandwidth=4.8, memory_gib=139.8),
    "h100-pcie": Gpu(name="H100 PCIe", tflops=756, bandwidth=2.0, memory_gib=79.1),
    "h100": Gpu(name="H100", tflops=989, bandwidth=3.35, memory_gib=79.1),
    "a100": Gpu(name="A100 80 GB", tflops=312, bandwidth=2.04, memory_gib=79.1),
    "v100": Gpu(name="V100", tflops=125, bandwidth=0.9, memory_gib=31.7),
}


def find_gpu(name: str) -> Gpu | None:
    """Return the data sheet of a GPU by the name that CUDA or a person gives it; None where it is not known."""
    text = name.lower().replace("_", " ")
    if "h100" in text and "pcie" in text:
        return GPUS["h100-pcie"]
    return next((gpu for key, gpu in GPUS.items() if key in text), None)
