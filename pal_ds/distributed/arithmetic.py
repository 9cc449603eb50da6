"""How a GPU computes: which algorithms, in which order, at which precision; set once, before the first operator."""

from __future__ import annotations

import os
import warnings

import torch

from pal_ds.config.run import RunSection

#: Without it cuBLAS may add in another order from call to call; it is read when the first handle is made.
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def set_arithmetic(run: RunSection) -> None:
    """Apply ``run.deterministic``, ``run.cudnn_benchmark`` and ``run.tf32`` to this process.

    Deterministic means: the same bits from the same weights and batches on the same kind of GPU, versions and number
    of ranks. Max pooling's backward pass, which adds atomically in torch, has a form of its own for it
    (``models/light_pool.py``). An operator that knows no such form is an error that names it.
    """
    torch.backends.cudnn.benchmark = run.cudnn_benchmark and not run.deterministic
    torch.backends.cudnn.deterministic = run.deterministic
    torch.backends.cudnn.allow_tf32 = run.tf32
    with warnings.catch_warnings():
        # torch announces another spelling, which the oldest supported one lacks.
        warnings.simplefilter("ignore")
        torch.backends.cuda.matmul.allow_tf32 = run.tf32
    if run.deterministic:
        os.environ.setdefault(*_CUBLAS)
    # Memory that is about to be written need not be filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(run.deterministic)
