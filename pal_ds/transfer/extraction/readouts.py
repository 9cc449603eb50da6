"""What is read from a backbone for each clip: its own output, poolings, single layers, whole grids of tokens.

Several are read in one forward pass. Layers are the parts of :meth:`Backbone.stages`; what a part gives may be a
volume [B, C, T, H, W], tokens [B, N, C], or either of them per frame, [B * T, C, H, W] and [B * T, N, C].
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pal_ds.config.base import ConfigError
from pal_ds.models.backbones.common import Backbone

_NUMBERED = re.compile(r"(layer|tokens):(-?[1-9]\d*)")
_LAST = re.compile(r"last([1-9]\d*)")
HELP = (
    "output (what the backbone returns), mean or max (of its last volume over time and space), layer:K (mean of its "
    "K-th stage, 1 the first, -1 the last), lastN (the means of the last N stages behind one another), tokens or "
    "tokens:K (not pooled)"
)


@dataclasses.dataclass(frozen=True)
class Readout:
    """One thing to read.

    Attributes:
        name: as it is asked for.
        kind: ``output``, ``mean``, ``max``, ``tokens`` (of the last volume), ``layer``, ``last`` or ``stage_tokens``.
        number: K or N; 0 where there is none.
    """

    name: str
    kind: str
    number: int = 0

    @property
    def folder(self) -> str:
        """Its folder below the destination."""
        return self.name.replace(":-", "-from-end-").replace(":", "-")

    @property
    def pooled(self) -> bool:
        """Whether it is one vector a clip."""
        return self.kind not in ("tokens", "stage_tokens")

    def stages(self, count: int) -> list[int]:
        """Return the numbers (from 0) of the stages that it needs.

        Raises:
            ConfigError: a backbone of ``count`` stages has no such.
        """
        if self.kind not in ("layer", "last", "stage_tokens"):
            return []
        if not 1 <= abs(self.number) <= count:
            fix = f"the backbone has {count} stages" if count else "the backbone names no stages"
            raise ConfigError(
                "--layers", self.name, f"{fix}; use {'those, or ' * bool(count)}output, mean, max"
            )
        if self.kind == "last":
            return list(range(count - self.number, count))
        return [self.number - 1 if self.number > 0 else count + self.number]


#: What is read where nothing is asked for.
OUTPUT = Readout("output", "output")


def parse_readouts(names: Sequence[str], *, keep_tokens: bool = False) -> tuple[Readout, ...]:
    """Return readouts by their names, and with ``keep_tokens`` the tokens behind each pooled one too.

    Raises:
        ConfigError: an unknown name, or one given twice.
    """
    found = [_parse(name) for name in names] or [OUTPUT]
    if keep_tokens:
        kept = [_tokens_behind(readout) for readout in found]
        found += [tokens for tokens in dict.fromkeys(filter(None, kept)) if tokens not in found]
    for place, readout in enumerate(found):
        if readout in found[:place]:
            raise ConfigError("--layers", readout.name, "is given twice; remove one")
    return tuple(found)


def _parse(name: str) -> Readout:
    if name in ("output", "mean", "max", "tokens"):
        return Readout(name, name)
    if match := _NUMBERED.fullmatch(name):
        return Readout(name, "layer" if match[1] == "layer" else "stage_tokens", int(match[2]))
    if match := _LAST.fullmatch(name):
        return Readout(name, "last", int(match[1]))
    raise ConfigError("--layers", name, f"use {HELP}")


def _tokens_behind(readout: Readout) -> Readout | None:
    if readout.kind == "layer":
        return Readout(f"tokens:{readout.number}", "stage_tokens", readout.number)
    return Readout("tokens", "tokens") if readout.kind in ("output", "mean", "max") else None


class ReadoutRun:
    """Reads several things from one backbone in one forward pass.

    Args:
        backbone: clips [B, 3, T, H, W] in, [B, C] out.
        readouts: what to read.

    Raises:
        ConfigError: it has no such stage, or isn't a :class:`Backbone` where more than its output is asked for.
    """

    def __init__(self, backbone: nn.Module, readouts: Sequence[Readout]) -> None:
        self._backbone = backbone
        self._readouts = tuple(readouts)
        self._modules: dict[int, nn.Module] = {}
        self._grids = any(readout.kind in ("mean", "max", "tokens") for readout in readouts)
        others = [readout.name for readout in readouts if readout.kind != "output"]
        if not others:
            return
        if not isinstance(backbone, Backbone):
            raise ConfigError("--layers", others[0], "this network gives its output only; leave it out")
        parts = backbone.stages()
        for readout in readouts:
            for stage in readout.stages(len(parts)):
                self._modules[stage] = parts[stage][-1]
        self._stages = len(parts)

    def __call__(self, clips_bcthw: Tensor) -> tuple[Tensor, ...]:
        """Return what each readout gives, at least fp32: [B, C], or tokens [B, ..., C]."""
        clips = len(clips_bcthw)
        seen: dict[int, Tensor] = {}
        with self._recording(seen, clips):
            output = self._backbone(clips_bcthw)
            if self._grids and -1 not in seen:
                # This network's output isn't made of its volume.
                self._backbone.volume(clips_bcthw)  # type: ignore[operator]  # a Backbone, by the constructor
        if output.ndim != 2 or len(output) != clips:
            raise ValueError(f"the backbone returned {list(output.shape)}; [clips, channels] is expected")
        return tuple(self._read(readout, output, seen) for readout in self._readouts)

    def _read(self, readout: Readout, output: Tensor, seen: dict[int, Tensor]) -> Tensor:
        if readout.kind == "output":
            return output.float()
        if readout.kind in ("mean", "max", "tokens"):
            grid = seen[-1]
            if readout.kind == "tokens":
                return grid
            flat_bnc = grid.flatten(1, -2)
            return flat_bnc.mean(dim=1) if readout.kind == "mean" else flat_bnc.amax(dim=1)
        grids = [seen[stage] for stage in readout.stages(self._stages)]
        if readout.kind == "stage_tokens":
            return grids[0]
        return torch.cat([grid.flatten(1, -2).mean(dim=1) for grid in grids], dim=1)

    @contextlib.contextmanager
    def _recording(self, seen: dict[int, Tensor], clips: int) -> Iterator[None]:
        """Keep what the stages and ``volume`` give, for as long as the block lasts."""

        def keeper(stage: int) -> Callable[[nn.Module, Any, Any], None]:
            def keep(module: nn.Module, inputs: Any, output: Any) -> None:
                del module, inputs
                seen[stage] = by_clip(output, clips)

            return keep

        hooks = [module.register_forward_hook(keeper(stage)) for stage, module in self._modules.items()]
        attributes = vars(self._backbone)
        if self._grids:
            volume = self._backbone.volume

            def recorded(clips_bcthw: Tensor) -> Tensor:
                found: Tensor = volume(clips_bcthw)  # type: ignore[operator]  # a Backbone, by the constructor
                seen[-1] = by_clip(found, clips)
                return found

            attributes["volume"] = recorded
        try:
            yield
        finally:
            attributes.pop("volume", None)
            for hook in hooks:
                hook.remove()


def by_clip(found: Any, clips: int) -> Tensor:
    """Bring what a stage gives into one form.

    Args:
        found: [B, C, T, H, W] | [B, N, C] | per frame [B * T, C, H, W] | [B * T, N, C] | [B * T, C]; the first of a
            tuple counts.
        clips: B.

    Returns:
        fp32 [B, ..., C] with at least one dimension of places between: a copy, since later layers may work in place.

    Raises:
        ValueError: another form.
    """
    x = found[0] if isinstance(found, (tuple, list)) else found
    if not isinstance(x, Tensor) or x.ndim not in (2, 3, 4, 5) or len(x) % clips:
        raise ValueError(f"a stage returned {getattr(x, 'shape', type(x))} for {clips} clips")
    if x.ndim >= 4:
        x = x.movedim(1, -1)
    if x.ndim == 2 or len(x) != clips or x.ndim == 4:
        x = x.reshape(clips, -1, *x.shape[1:])
    copied: Tensor = x.to(torch.float32, copy=True)
    return copied
