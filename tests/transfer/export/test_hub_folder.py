"""The folder for model hubs: loads like any export, tells what is known of the run, and nothing that isn't."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from pal_ds.cli.pretrain import main
from pal_ds.formats.backbone_file import BackboneError
from pal_ds.transfer.backbone_export import export_backbone, load_backbone
from pal_ds.transfer.export.hub_folder import export_hub
from tests.support.extract_fixtures import CONFIG, make_video, write_checkpoint, write_shard_set


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose data set, figures and machine are known."""
    folder = tmp_path / "run"
    checkpoint = write_checkpoint(folder)
    write_shard_set(tmp_path / "secret-bucket" / "small", [make_video(tmp_path / "a.mp4")])
    sections = {
        "objective": {"name": "pal"},
        "data": {"shards": str(tmp_path / "secret-bucket" / "small"), "global_batch": 64},
        "optimizer": {"lr": 0.001},
        "precision": "bf16",
        "run": {"seed": 5},
    }
    state = {"step": 10, "config": CONFIG | sections, "identity": {"manifest": "ab" * 32}}
    (checkpoint / "state.json").write_text(json.dumps(state))
    rows = [
        {"step": 0, "val_loss": 3.5, "val_chance_loss": 3.4, "val_loss_error": 0.1, "val_samples": 9},
        {"step": 1, "loss": 3.0},
        {"step": 10, "loss": 2.0},
        {
            **{
                "step": 10,
                "val_loss": 1.25,
                "val_chance_loss": 3.4,
                "val_loss_error": 0.05,
                "val_seconds": 2,
            },
            **{"val_localisation_iou": 0.7, "val_localisation_iou_chance": 0.3, "val_top1": None},
        },
        {"step": 20, "val_loss": 0.1, "val_chance_loss": 3.4},  # after the checkpoint
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"step": 3')
    (folder / "environment.json").write_text(
        json.dumps(
            {"world_size": 8, "device": {"name": "H100"}, "versions": {"torch": "2.13"}, "commit": None}
        )
    )
    return folder


def header_of(card: str) -> dict:
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_card_tells_data_steps_and_figures_beside_their_controls(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--hub", str(tmp_path / "hub"), "--license", "apache-2.0"]) == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert header_of(card)["license"] == "apache-2.0"
    assert header_of(card)["tags"][-1] == "pal"
    for line in (
        "| Objective | `pal` |",
        f"| Data set | `small`: `val` 1 clips (0.000278 h); manifest SHA-256 `{'ab' * 32}` |",
        "| Steps | 10 |",
        "| Batch | 64 videos |",
        "| Precision | bf16 |",
        "| Machine | 8 ranks, H100, torch 2.13 |",
        "| `loss` | 1.25 ± 0.05 | 3.5 | 3.4 |",
        "| `localisation_iou` | 0.7 | - | 0.3 |",
    ):
        assert line in card, line
    assert "top1" not in card
    assert "val_s" not in card
    assert "secret-bucket" not in card + (tmp_path / "hub" / "config.json").read_text()


def test_it_loads_as_every_export_does(run: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    spec = export_hub(str(run), str(hub))
    network, known = load_backbone(str(hub))
    assert known.digest == spec.digest
    clips = torch.rand(1, 3, 8, 32, 32)
    torch.testing.assert_close(network(clips), load_backbone(str(run))[0](clips))
    config = json.loads((hub / "config.json").read_text())
    assert (config["backbone"], config["hidden_size"], config["num_frames"]) == ("i3d", spec.feature_dim, 8)
    assert set(safetensors.torch.load_file(hub / "model.safetensors")) == set(network.state_dict())


def test_an_export_of_an_export_keeps_its_card(run: Path, tmp_path: Path) -> None:
    export_hub(str(run), str(tmp_path / "hub"), license_id="mit", name="Mine")
    export_hub(str(tmp_path / "hub"), str(tmp_path / "again"))
    for name in ("README.md", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hub" / name).read_bytes()
    digests = {load_backbone(str(tmp_path / name))[1].digest for name in ("hub", "again")}
    assert len(digests) == 1
    assert "# Mine" in (tmp_path / "again" / "README.md").read_text()
    assert main(["export", str(tmp_path / "hub"), "--hub", str(tmp_path / "third"), "--license", "mit"]) == 2


def test_what_is_not_known_is_not_told(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_backbone(str(run), str(tmp_path / "backbone.safetensors"))
    export_hub(str(tmp_path / "backbone.safetensors"), str(tmp_path / "bare"))
    card = (tmp_path / "bare" / "README.md").read_text()
    assert "nothing is known here of their training" in card
    assert header_of(card)["license"] == "unknown"
    assert "Held-out" not in card
    (tmp_path / "secret-bucket" / "small" / "manifest.json").unlink()
    (run / "metrics.jsonl").write_text('{"step": 10, "val_loss": 1.0}\n')
    (run / "environment.json").unlink()
    export_hub(str(run), str(tmp_path / "hub"))
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "counts unknown" in card
    assert "the shard set can't be read" in caplog.text
    assert "these figures have no control" in card
    (run / "metrics.jsonl").unlink()
    export_hub(str(run), str(tmp_path / "hub"))
    assert "had no validation" in (tmp_path / "hub" / "README.md").read_text()


def test_a_folder_of_another_kind_is_refused(run: Path, tmp_path: Path) -> None:
    export_hub(str(run), str(tmp_path / "hub"))
    for config, said in (
        ({"model_type": "videomae"}, "no encoder of format"),
        ({"format": "pal-hub/9"}, "hub/9"),
    ):
        (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
        with pytest.raises(BackboneError, match=said):
            load_backbone(str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--out FILE, --hub DIR or --opentad DIR"),
        (("--out", "x", "--license", "mit"), "--license has no effect"),
        (("--out", "x", "--name", "n"), "--name has no effect"),
    ],
)
def test_arguments_without_effect_are_refused(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", "run", *words])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert main(["export", "run", "--hub", "x", "--license", "two words"]) == 2


def test_loading_needs_no_training_code(run: Path, tmp_path: Path) -> None:
    export_hub(str(run), str(tmp_path / "hub"))
    code = (
        "import sys; from pal_ds.transfer.backbone_export import load_backbone; load_backbone(sys.argv[1]); "
        "print([name for name in sys.modules if name.split('.')[0] == 'deepspeed' or 'pal_ds.training' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hub")], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
