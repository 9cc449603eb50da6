"""``torch.compile`` of the backbone: one graph or an error, never a quiet return to eager execution."""

from __future__ import annotations

from typing import Any

from torch import nn


def compile_backbone(backbone: nn.Module, **options: Any) -> None:
    """Compile a backbone in place for fixed clip shapes; state-dict keys stay the same.

    The whole backbone is one graph: its blocks share their code, so compiling them one by one would run into
    the recompilation limit.

    Args:
        backbone: module of ``build_backbone``.
        options: further options of ``torch.compile``, such as ``backend``.
    """
    backbone.compile(fullgraph=True, dynamic=False, **options)


def is_compiled(module: nn.Module) -> bool:
    """Whether any part of ``module`` is compiled."""
    return any(part._compiled_call_impl is not None for part in module.modules())
