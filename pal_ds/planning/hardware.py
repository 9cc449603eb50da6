"""Data sheets: what accelerators can do, and what backbones ask for."""

from __future__ import annotations

import dataclasses


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A backbone's work for one clip of 8 x 112 x 112.

    Attributes:
        forward_gflop: one forward pass; a multiply-add is two.
        train_gflop: forward and backward; the input needs no gradient.
        parameters: trained numbers.
        norms: BatchNorm layers; each has three collectives a micro-step.
        moved_mb: memory traffic of a clip's query and key passes in bf16 without fusion; 0 where not known.
    """

    forward_gflop: float
    train_gflop: float
    parameters: float
    norms: int
    moved_mb: float = 0.0


#: Counted by torch.utils.flop_counter, convolutions only; I3D's forward pass is the 3.57 GMAC that the paper's 3.6
#: means, whose backward pass is twice that less the stem's input gradient (0.83 GMAC).
NETWORKS = {
    "i3d": Network(
        forward_gflop=7.13, train_gflop=3 * 7.13 - 1.66, parameters=12.29e6, norms=57, moved_mb=173.0
    ),
    "resnet3d50": Network(forward_gflop=21.99, train_gflop=65.49, parameters=31.63e6, norms=53),
    "r2plus1d18": Network(forward_gflop=40.52, train_gflop=121.22, parameters=31.30e6, norms=37),
    "s3d": Network(forward_gflop=4.47, train_gflop=12.95, parameters=7.91e6, norms=77),
    "tsm_resnet50": Network(forward_gflop=17.21, train_gflop=51.17, parameters=23.51e6, norms=53),
    "tsm_resnet8": Network(forward_gflop=1.05, train_gflop=3.12, parameters=3.47e6, norms=10),
}


def find_gpu(name: str) -> Gpu | None:
    """Return the data sheet of a GPU by the name that CUDA or a person gives it; None where it is not known."""
    text = name.lower().replace("_", " ")
    if "h100" in text and "pcie" in text:
        return GPUS["h100-pcie"]
    return next((gpu for key, gpu in GPUS.items() if key in text), None)
