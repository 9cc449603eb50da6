"""Where the time of one full PAL step goes on a CPU: I3D at 8 clips x 8 frames x 112 x 112, forward to update.

    python -m benchmarks.models.step_profile --videos 2

Two figures: the share of operator time spent in convolutions, from torch's profiler; and the time of a whole step
over the bare sum of its convolutions, each timed alone at its own shapes (query: forward and backward, the stem
without an input gradient; key: forward). Everything else in a step, BatchNorm, pooling, loss, momentum, queue, Adam,
is what the ratio is above 1. Writes step_profile.json into this folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import machine
from benchmarks.models.common import FOLDER, ROOT, noise_batch
from pal_ds.config import Config, load_config
from pal_ds.models import Objective, ViewBatch, build_objective

PARTS = {
    "convolution": ("conv",),
    "batch norm": ("batch_norm",),
    "max and average pooling": ("pool",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "concatenation": ("aten::cat",),
    "padding": ("_pad",),
}


def make_step(config: Config, batch: ViewBatch) -> tuple[Objective, Callable[[], None]]:
    """Return the objective and one optimizer step of it: what the engine does on one rank in fp32."""
    torch.manual_seed(0)
    objective = build_objective(config.objective, config.model, config.queue)
    optimizer = torch.optim.Adam(
        [value for value in objective.parameters() if value.requires_grad],
        config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
    )

    def step() -> None:
        output = objective(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(output.staged)

    return objective, step


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after one to warm up."""
    work()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def bare_convolutions(objective: Objective, batch: ViewBatch, repeats: int) -> list[dict[str, Any]]:
    """Time every convolution of the backbone alone, as a step runs it."""
    seen: list[tuple[str, nn.Conv3d, Tensor]] = []

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            del output
            assert isinstance(layer, nn.Conv3d)
            seen.append((name, layer, inputs[0].detach()))

        return hook

    hooks = [
        layer.register_forward_hook(remember(name))
        for name, layer in objective.backbone.named_modules()
        if isinstance(layer, nn.Conv3d)
    ]
    with torch.no_grad():
        objective(batch)
    for handle in hooks:
        handle.remove()
    rows = []
    for number, (name, layer, clips) in enumerate(seen):
        run = _forward_and_backward(layer, clips, needs_input=number > 0)
        both = median_seconds(run, repeats)
        forward = median_seconds(lambda layer=layer, clips=clips: _forward(layer, clips), repeats)  # type: ignore[misc] # mypy can't infer a lambda with defaults
        rows.append({"layer": name, "query_seconds": both, "key_seconds": forward})
    return rows


def _convolve(layer: nn.Conv3d, clips: Tensor) -> Tensor:
    return F.conv3d(
        clips, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )


@torch.no_grad()
def _forward(layer: nn.Conv3d, clips: Tensor) -> Tensor:
    return _convolve(layer, clips)


def _forward_and_backward(layer: nn.Conv3d, clips: Tensor, *, needs_input: bool) -> Callable[[], object]:
    clips = clips.clone().requires_grad_(needs_input)
    wanted = (clips, layer.weight) if needs_input else (layer.weight,)
    slope = torch.ones_like(_forward(layer, clips))
    return lambda: torch.autograd.grad(_convolve(layer, clips), wanted, slope)


def shares(step: Callable[[], None]) -> dict[str, float]:
    """Return the share of operator self time by kind, from one profiled step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    total, found = 0.0, dict.fromkeys([*PARTS, "everything else"], 0.0)
    for event in profiler.key_averages():
        seconds = event.self_cpu_time_total / 1e6
        kind = next((kind for kind, words in PARTS.items() if any(word in event.key for word in words)), None)
        found[kind or "everything else"] += seconds
        total += seconds
    return {name: seconds / total for name, seconds in found.items()}


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=float, default=1.0, help="below 1 only to try the script")
    parser.add_argument("--contiguous", action="store_true", help="model.channels_last=false")
    parser.add_argument("--out", type=Path, default=FOLDER / "step_profile.json")
    args = parser.parse_args()
    words = ["data.shards=none", "run.dir=none", f"model.width={args.width}"]
    words.append(f"model.channels_last={'false' if args.contiguous else 'true'}")
    config = load_config(ROOT / "configs" / "pretrain" / "pal_i3d_k400.yaml", words)
    batch = noise_batch(config, args.videos)
    objective, step = make_step(config, batch)
    whole = median_seconds(step, args.repeats)
    parts = shares(step)
    layers = bare_convolutions(objective, batch, args.repeats)
    bare = sum(row["query_seconds"] + row["key_seconds"] for row in layers)
    document = {
        "machine": machine(),
        "config": words,
        "videos": args.videos,
        "step_seconds": whole,
        "videos_per_second": args.videos / whole,
        "operator_time_shares": parts,
        "bare_convolutions_seconds": bare,
        "step_over_bare_convolutions": whole / bare,
        "layers": layers,
    }
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({key: value for key, value in document.items() if key != "layers"}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
