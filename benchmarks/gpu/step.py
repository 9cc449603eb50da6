"""One step in a process of its own: ``python -m benchmarks.gpu.step NAME OUT ...``, started by the runner."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.gpu.plan import STEPS


def main() -> int:
    """Run a step and write what it returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--brought", type=Path)
    parser.add_argument("--deadline", type=float, required=True)
    args = parser.parse_args()
    import torch

    from benchmarks.gpu.context import Context

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("torch sees no CUDA device\n")
        return 1
    context = Context(
        device=torch.device(args.device, 0) if args.device == "cuda" else torch.device("cpu"),
        tiny=args.tiny,
        folder=args.folder,
        brought=args.brought,
        deadline=args.deadline,
    )
    module, function = STEPS[args.name].where.split(":")
    result = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(context)
    args.out.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
