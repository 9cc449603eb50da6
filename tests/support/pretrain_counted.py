"""launch/pretrain.py that notes what would make the host wait for a device, in optimizer steps without a log row.

On a CPU nobody waits, but the operators are the same. Two modes look on: one at operators whose result the host must
know, one at calls that bring a tensor to the host, which on a CPU are no operators; these are told with their place.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

WAITS = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "nonzero_numpy",
    "masked_select",
    "equal",
    "unique_dim",
    "_unique2",
    "unique_consecutive",
    "repeat_interleave",
    "bincount",
}
FETCHES = {"cpu", "tolist", "numpy", "item", "__bool__", "__float__", "__int__", "__index__", "__array__"}

if __name__ == "__main__":
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter[str] = Counter()

    def place() -> str:
        frame = sys._getframe(2)
        while "torch" in frame.f_code.co_filename or frame.f_code.co_filename == __file__:
            frame = frame.f_back
        return f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_name}"

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func._schema.name.removeprefix("aten::")
            masks = name.startswith("index") and any(
                isinstance(each, torch.Tensor) and each.dtype in {torch.bool, torch.uint8}
                for part in args[1:]
                if isinstance(part, (list, tuple))
                for each in part
            )
            if (name in WAITS and not (name == "repeat_interleave" and kwargs)) or masks:
                found[f"operator {name} in {place()}"] += 1
            return func(*args, **(kwargs or {}))

    class Calls(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            name = getattr(func, "__name__", "")
            if name in FETCHES:
                found[f"call {name} in {place()}"] += 1
            if func is torch.tensor and (kwargs or {}).get("device") is not None:
                found[f"call tensor to a device in {place()}"] += 1
            return func(*args, **(kwargs or {}))

    from deepspeed.accelerator import get_accelerator

    from pal_ds.cli.pretrain import main
    from pal_ds.training.trainer import Trainer

    first, last = json.loads(os.environ["PAL_TEST_COUNTED"])
    honest = Trainer._train_step
    counting = []
    accelerator = get_accelerator()

    def synchronize(*_):
        found[f"synchronize in {place()}"] += len(counting)

    type(accelerator).synchronize = synchronize

    def counted(self):
        if not first <= self.step <= last:
            return honest(self)
        counting.append(self.step)
        with Operators(), Calls():
            stop = honest(self)
        counting.clear()
        return stop

    Trainer._train_step = counted
    status = main()
    Path(f"{os.environ['PAL_TEST_COUNTED_OUT']}.{os.environ['RANK']}").write_text(json.dumps(+found))
    sys.exit(status)
