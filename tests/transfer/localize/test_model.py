"""A head exported with its encoder predicts what the run's own evaluation predicted, or is refused."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

from pal_ds.cli import transfer
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.backbone_export import export_backbone
from pal_ds.transfer.extraction.options import ExtractOptions
from pal_ds.transfer.localize.errors import ModelError
from pal_ds.transfer.localize.export import best_threshold
from pal_ds.transfer.localize.model_folder import load_model
from pal_ds.transfer.metrics.instances import Instances
from tests.support.extract_fixtures import write_checkpoint
from tests.support.localizer_model import train_model

OTHER_LAYER = ExtractOptions(layers=("layer:2",), stride_seconds=0.2, dtype="float16")
CASES = {
    "map, classifier": {},
    "map, proposals": {"task": "apg"},
    "map, windows": {"shape": "windows"},
    "moments": {"head": "actionformer"},
    "moments, proposals": {"head": "actionformer", "task": "apg"},
    "another layer": {"sampling": OTHER_LAYER},
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_predicts_what_the_run_predicted(tmp_path, trained, case):
    made = train_model(tmp_path, **CASES[case]) if CASES[case] else trained
    model = load_model(str(made.model))
    predictor = model.predictor(torch.device("cpu"))
    store = FeatureStore(str(made.features))
    wanted = made.predictions()
    assert set(wanted) == {"clip0", "clip1", "clip2"}
    with torch.no_grad():
        for video, rows in wanted.items():
            found = predictor.rows(store.load(video))
            assert [row["segment"] for row in found] == [row["segment"] for row in rows]
            assert [row.get("label") for row in found] == [row.get("label") for row in rows]
            np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in rows], rtol=1e-5)
    labelled = CASES[case].get("task") != "apg"
    assert model.spec.classes == (("a <b>& turn", "jump") if labelled else ())


def test_a_reader_by_the_document_alone(trained):
    document = json.loads((trained.model / "model.json").read_text())
    assert document["format"] == "pal-localizer/1"
    assert set(document) == {
        *("format", "task", "classes", "named_by", "feature_dim", "sampling", "head", "input", "post"),
        *("threshold", "trained", "versions", "files"),
    }
    assert set(document["files"]) == {"encoder.safetensors", "head.safetensors"}
    for name, said in document["files"].items():
        data = (trained.model / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (said["bytes"], said["sha256"])
    with safetensors.safe_open(str(trained.model / "encoder.safetensors"), "pt") as file:
        assert file.metadata()["format"] == "pal-backbone/1"
        assert int(file.metadata()["feature_dim"]) == document["feature_dim"]
    head = safetensors.torch.load_file(trained.model / "head.safetensors")
    assert {value.dtype for value in head.values()} == {torch.float32}
    count, width = len(document["classes"]), document["feature_dim"]
    assert head["classifier.weight_kc"].shape == (count, width)
    assert head["classifier.bias_k"].shape == (count,)
    assert head["classifier.mean_c"].shape == head["classifier.scale_c"].shape == (width,)
    trained_head = safetensors.torch.load_file(trained.run / "checkpoints/epoch-0001/model.safetensors")
    network = {name.removeprefix("network."): value for name, value in head.items() if "network." in name}
    assert network.keys() == trained_head.keys()
    assert all(torch.equal(network[name], trained_head[name]) for name in network)


def export(made, *words, out):
    command = ["export", str(made.run), "--encoder", str(made.encoder), "--out", str(out), *map(str, words)]
    return transfer.main(command)


def test_the_command_says_what_it_wrote(trained, tmp_path, capsys):
    assert export(trained, "--json", "--threshold", "0.25", out=tmp_path / "model") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["threshold"] == 0.25
    assert said["sampling"]["stride"] == 4
    assert set(said["versions"]) == {"pal_ds", "torch"}
    assert load_model(str(tmp_path / "model")).spec.threshold == 0.25
    assert export(trained, out=tmp_path / "model") == 0
    assert f"pal-localize VIDEO --model {tmp_path / 'model'}" in capsys.readouterr().out


def refused(capsys, status, *parts):
    said = capsys.readouterr().err
    assert status == 2
    assert said.startswith("pal-transfer export: error: ")
    assert said.count("\n") == 1
    for part in parts:
        assert part in said


def test_another_encoder_is_refused(trained, tmp_path, capsys):
    other = write_checkpoint(tmp_path / "other", seed=1)
    status = export(trained, "--encoder", other, out=tmp_path / "model")
    refused(capsys, status, "aren't those that made the features")
    status = export(trained, "--encoder", "random:i3d@0.25", out=tmp_path / "model")
    refused(capsys, status, "feature_dim = 256", "trained on features of 64")
    assert not (tmp_path / "model").exists()


def test_runs_that_can_not_be_exported_are_refused(trained, tmp_path, capsys):
    for name, change, parts in (
        ("nothing", shutil.rmtree, ["no config.yaml"]),
        ("vg", lambda run: (run / "config.yaml").write_text("# task: vg\n"), ["task vg", "tad or apg"]),
        ("damaged", lambda run: (run / "config.yaml").write_text("# task: tad\n[1]"), ["damaged"]),
        ("untrained", lambda run: shutil.rmtree(run / "checkpoints"), ["no committed epoch"]),
        ("unscored", lambda run: (run / "predictions.json").unlink(), ["--threshold"]),
    ):
        run = shutil.copytree(trained.run, tmp_path / name)
        change(run)
        status = transfer.main(
            ["export", str(run), "--encoder", str(trained.encoder), "--out", str(tmp_path / "model")]
        )
        refused(capsys, status, *parts)
    status = export(trained, "--epoch", 7, out=tmp_path / "model")
    refused(capsys, status, "epoch 7 isn't there", "one of: 1")
    status = export(trained, "--features", tmp_path / "moved", out=tmp_path / "model")
    refused(capsys, status, "no extract.json", "--features")


def test_an_epoch_that_is_gone_is_named(trained, tmp_path, capsys):
    run = shutil.copytree(trained.run, tmp_path / "run")
    state = run / "checkpoints/epoch-0001/state.json"
    content = json.loads(state.read_text())
    content["best"]["epoch"] = 4
    state.write_text(json.dumps(content))
    words = ["export", str(run), "--encoder", str(trained.encoder), "--out", str(tmp_path / "model")]
    refused(capsys, transfer.main(words), "epoch 4 is the one that the run reports", "--epoch one of: 1")
    assert transfer.main([*words, "--epoch", "1"]) == 0


def changed(trained, tmp_path, change):
    folder = shutil.copytree(trained.model, tmp_path / "model")
    document = json.loads((folder / "model.json").read_text())
    change(folder, document)
    (folder / "model.json").write_text(json.dumps(document))
    return str(folder)


def rewrite_head(folder, document, change):
    """Change the tensors of the head and let ``model.json`` know of it."""
    tensors = safetensors.torch.load_file(folder / "head.safetensors")
    change(tensors)
    data = safetensors.torch.save(tensors)
    (folder / "head.safetensors").write_bytes(data)
    document["files"]["head.safetensors"]["sha256"] = hashlib.sha256(data).hexdigest()


def other_encoder(folder, document):
    export_backbone("random:i3d@0.125", str(folder / "encoder.safetensors"))
    data = (folder / "encoder.safetensors").read_bytes()
    document["files"]["encoder.safetensors"]["sha256"] = hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder, document: document.update(format="pal-localizer/9"), "this version reads"),
        (lambda folder, document: document.pop("sampling"), "damaged"),
        (lambda folder, document: document["head"].update(name="lgi"), "head."),
        (lambda folder, document: document["post"].update(sigma=-1), "post.sigma"),
        (lambda folder, document: document["files"].pop("head.safetensors"), "lacks head.safetensors"),
        (lambda folder, document: (folder / "head.safetensors").unlink(), "missing"),
        (lambda folder, document: (folder / "encoder.safetensors").write_bytes(b"x"), "not the file"),
        (lambda folder, document: document.update(feature_dim=32), "feature_dim = 64"),
        (other_encoder, "feature_dim = 128, the head was trained on features of 64"),
        (
            lambda folder, document: rewrite_head(
                folder, document, lambda t: t.pop(next(name for name in sorted(t) if "network" in name))
            ),
            "weights don't fit the head: 1 tensors differ",
        ),
        (
            lambda folder, document: rewrite_head(folder, document, lambda t: t.update(more=torch.zeros(1))),
            "unexpected tensor more",
        ),
        (
            lambda folder, document: rewrite_head(folder, document, lambda t: t.pop("classifier.bias_k")),
            "for the classifier of segments",
        ),
        (lambda folder, document: document["classes"].append("third"), "don't fit 3 classes"),
    ],
)
def test_models_that_do_not_fit_are_refused(trained, tmp_path, change, said):
    with pytest.raises(ModelError, match=said):
        load_model(changed(trained, tmp_path, change))


def test_a_folder_without_a_model_says_how_to_make_one(tmp_path):
    with pytest.raises(ModelError, match="pal-transfer export RUN"):
        load_model(str(tmp_path))


def instances(spans, scores, labels=None):
    count = len(spans)
    return Instances(
        videos=("a",), video=np.zeros(count, dtype=np.int64), segments=np.array(spans, dtype=float).reshape(-1, 2),
        labels=("jump", "run"), label=np.array(labels or [0] * count, dtype=np.int64), scores=np.array(scores),
    )  # fmt: skip


def test_the_threshold_is_that_of_the_best_f1():
    truth = instances([(0, 10), (20, 30)], [0, 0])
    guesses = instances([(0, 10), (50, 60), (20, 30), (70, 80)], [0.9, 0.3, 0.5, 0.3])
    assert best_threshold(truth, guesses) == (0.5, 1.0)
    # Of equal scores all count: two of four are right then.
    tied = instances([(0, 10), (50, 60), (20, 30), (70, 80)], [0.9, 0.3, 0.3, 0.3])
    assert best_threshold(truth, tied) == (0.9, pytest.approx(2 / 3))
    assert best_threshold(truth, instances([(0, 10)], [0.9], labels=[1])) == (0.0, 0.0)
