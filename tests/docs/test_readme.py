"""What the README shows is run: its Python, and every file, option and command that it names."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from pal_ds.cli.evaluate import TASKS
from pal_ds.config import load_config
from pal_ds.transfer.backbone_export import export_backbone
from tests.support.extract_fixtures import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Words of every line of the blocks without a language that is a command."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    known = ("python ", "deepspeed ", "pal-", "make ")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(known)]


def test_the_python_example_encodes_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    write_checkpoint(tmp_path / "run")
    (tmp_path / "runs" / "small").mkdir(parents=True)
    export_backbone(str(tmp_path / "run"), str(tmp_path / "runs/small/backbone.safetensors"))
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    torch.manual_seed(0)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    said = capsys.readouterr().out
    assert "torch.Size([2, 1024])" in said
    assert names["feature"].shape == (1, names["spec"].feature_dim)
    assert bool(torch.isfinite(names["feature"]).all())


def test_every_file_that_a_command_starts_or_reads_is_there():
    found = [word for words in commands() for word in words if word.startswith(("launch/", "configs/"))]
    assert "launch/transfer.py" in found
    for word in found:
        assert (ROOT / word).is_file(), word


def test_every_pre_training_command_has_a_config_that_loads():
    seen = 0
    for words in commands():
        if "launch/pretrain.py" in words and "--config" in words:
            config = words[words.index("--config") + 1]
            load_config(ROOT / config, [word for word in words if re.fullmatch(r"[\w.]+=\S+", word)])
            seen += 1
    assert seen == 2


def test_every_evaluation_and_make_target_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands():
        if words[0] == "make":
            assert words[1] in targets
        if words[0] == "pal-eval":
            assert words[1] in TASKS
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert target in targets


def test_the_figure_is_small():
    (figure,) = re.findall(r"!\[[^]]+\]\((docs/images/[^)]+)\)", README)
    assert (ROOT / figure).stat().st_size < 250_000


def test_results_quote_what_the_benchmarks_say():
    results = README[README.index("<!-- results: begin -->") : README.index("<!-- results: end -->")]
    pages = [(ROOT / f"benchmarks/{name}/README.md").read_text() for name in ("learning", "evidence")]
    numbers = re.findall(r"(?:[+-]?\d+\.\d+ ± \d+\.\d+|\[[+-]\d+\.\d+, [+-]\d+\.\d+\]|\d+\.\d+)", results)
    assert len(numbers) > 40
    for number in numbers:
        assert any(number in page for page in pages), number
