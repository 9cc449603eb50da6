"""The folder of a downstream run: config, rows, checkpoints by epoch, predictions, result; any URL."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import safetensors.torch
import torch
import yaml
from torch import nn

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.end_to_end import EndToEndConfig
from pal_ds.config.heads import HeadConfig
from pal_ds.config.loading import describe, to_tree, to_yaml
from pal_ds.config.tac import TacConfig
from pal_ds.config.transfer import TransferConfig
from pal_ds.formats.checkpoint import COMMITTED

#: Options that may change when a run goes on; all others are its identity.
FREE = {
    "run.dir",
    "run.epochs",
    "run.device",
    "run.keep_checkpoints",
    "run.evaluate_every",
    "data.workers",
}


class RunFolder:
    """Reads and writes a run.

    Args:
        task: ``tad``, ``apg``, ``vg`` or ``tac``.
        config: of this start.

    Raises:
        ConfigError: the folder holds a run of another task or with other settings.
    """

    def __init__(self, task: str, config: TransferConfig | TacConfig | EndToEndConfig) -> None:
        self.url = config.run.dir
        self.keep = config.run.keep_checkpoints
        self.rows: list[dict[str, Any]] = []
        self.task, self.config = task, config
        # A start that was refused before its first epoch leaves nothing that binds the next.
        if self.newest():
            self._check_identity(task, config)

    def claim(self) -> None:
        """Write the config; from the first committed epoch on it is the run's identity."""
        self._write("config.yaml", f"# task: {self.task}\n{to_yaml(self.config)}".encode())

    def newest(self) -> int:
        """Give the newest committed epoch (epochs done, from 1); 0 where there is none."""
        return max(self._epochs(), default=0)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Load the newest committed epoch into model and optimizer and give its state; rows after it are dropped."""
        epoch = self.newest()
        tensors = safetensors.torch.load(self._read(_name(epoch), "model.safetensors"))
        model.load_state_dict(tensors)
        _load_adam(
            model, optimizer, safetensors.torch.load(self._read(_name(epoch), "optimizer.safetensors"))
        )
        state: dict[str, Any] = json.loads(self._read(_name(epoch), "state.json"))
        if storage.exists(storage.join(self.url, "metrics.jsonl")):
            lines = self._read("metrics.jsonl").decode().splitlines()
            self.rows = [row for row in map(json.loads, lines) if row["epoch"] <= epoch]
        return state

    def save(
        self, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        """Save an epoch; ``COMMITTED`` is written last, then the oldest beyond ``keep_checkpoints`` are removed."""
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        self._write(f"checkpoints/{_name(epoch)}/model.safetensors", safetensors.torch.save(tensors))
        self._write(
            f"checkpoints/{_name(epoch)}/optimizer.safetensors",
            safetensors.torch.save(_adam(model, optimizer)),
        )
        self._write(f"checkpoints/{_name(epoch)}/state.json", _json(state))
        self._write(f"checkpoints/{_name(epoch)}/{COMMITTED}", b"")
        for old in sorted(self._epochs())[: -self.keep]:
            storage.remove(storage.join(self.url, "checkpoints", _name(old)), recursive=True)

    def log(self, row: dict[str, Any]) -> None:
        """Add a row to ``metrics.jsonl``."""
        self.rows.append(row)
        self._write("metrics.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in self.rows))

    def status(self, state: str, epoch: int) -> None:
        """Write ``STATUS.json``: running, preempted, failed or done."""
        self._write("STATUS.json", _json({"state": state, "epoch": epoch}))

    def write_json(self, name: str, content: Any) -> str:
        """Write a JSON file into the folder and give its URL."""
        self._write(name, json.dumps(content).encode() + b"\n")
        return storage.join(self.url, name)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        self._write(name, text.encode())

    def _check_identity(self, task: str, config: TransferConfig | TacConfig | EndToEndConfig) -> None:
        text = self._read("config.yaml").decode()
        before_task = text.partition("\n")[0].removeprefix("# task: ")
        if before_task != task:
            raise ConfigError("run.dir", self.url, f"holds a run of task {before_task}; use another folder")
        before, now = _flat(yaml.safe_load(text)), _flat(to_tree(config))
        # A run begun before an option existed has its default; older ones list the options of all heads.
        defaults = {name: default for name, default, _ in describe(type(config)) if name in now}
        heads = {
            f"head.{each.name}" for kind in HeadConfig.kinds().values() for each in dataclasses.fields(kind)
        }
        before = {
            name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()
        } | {name: value for name, value in before.items() if name in now or name not in heads}
        for name in sorted((before.keys() | now.keys()) - FREE):
            if before.get(name) != now.get(name):
                problem = f"the run in {self.url} was started with {before.get(name)!r}; use another run.dir"
                raise ConfigError(name, now.get(name), problem)

    def _epochs(self) -> list[int]:
        folder = storage.join(self.url, "checkpoints")
        names = [name for name in storage.list_names(folder) if name.startswith("epoch-")]
        return [
            int(name.removeprefix("epoch-"))
            for name in names
            if storage.exists(storage.join(folder, name, COMMITTED))
        ]

    def _read(self, *names: str) -> bytes:
        inside = ("checkpoints", *names) if len(names) > 1 else names
        return storage.read_bytes(storage.join(self.url, *inside))

    def _write(self, name: str, data: bytes) -> None:
        storage.write_bytes(storage.join(self.url, name), data)


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _adam(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Adam's state by parameter name."""
    return {
        f"{name}|{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _load_adam(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for full, value in tensors.items():
        name, _, key = full.partition("|")
        parameter = parameters[name]
        device = torch.device("cpu") if key == "step" else parameter.device
        optimizer.state[parameter][key] = value.to(device)
