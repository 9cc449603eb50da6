import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from pal_ds.config.base import ConfigError
from pal_ds.config.end_to_end import EndToEndConfig
from pal_ds.config.heads import heads_of
from pal_ds.config.loading import build, load_tree
from pal_ds.config.tac import TacConfig
from pal_ds.config.transfer import TransferConfig
from pal_ds.formats.feature_folder import FeatureError, FeatureStore
from pal_ds.transfer.datasets.annotations import AnnotationError
from pal_ds.transfer.head_trainer import train
from pal_ds.transfer.metrics.evaluate import evaluate
from pal_ds.transfer.tasks.class_scores import VideoScores, pool
from tests.support.fork_server import fork_server, run_python
from tests.support.synthetic_localization import make_set, write_features, write_queries

ROOT = Path(__file__).parents[2]
TINY = {"snippets": 16, "durations": 16, "hidden_1d": 32, "hidden_2d": 8, "hidden_3d": 16}


def tree(folder, **sections):
    made = {
        "run": {"dir": str(folder / "run"), "epochs": 2},
        "data": {"features": str(folder / "features"), "annotations": str(folder / "truth.json")},
        "head": {**TINY, "name": "gtad"},
        "optimizer": {"lr": 1e-3, "batch": 4},
        "post": {"keep": 20},
    }
    if sections.get("head", {}).get("name", "gtad") in ("actionformer", "lgi"):
        made["head"] = {"snippets": TINY["snippets"]}
    if sections.get("head", {}).get("name") == "lgi":
        made["post"] = {}
    for name, section in sections.items():
        made[name] = {**made.get(name, {}), **section} if isinstance(section, dict) else section
    return made


def config(folder, **sections):
    return build(TransferConfig, tree(folder, **sections))


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = make_set(tmp_path_factory.mktemp("set"), videos=4, length=40, channels=8)
    write_queries(folder)
    return folder


def weights(folder, epoch):
    return safetensors.numpy.load_file(folder / f"checkpoints/epoch-{epoch:04d}/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["tad", "vg"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(small_set, task):
    head = {"name": heads_of(task)[0]}
    data = {}
    if task == "vg":
        head |= {"hidden": 16, "word_dim": 8, "kernel": 3}
        data = {"annotations": str(small_set / "queries.txt")}
    straight = train(
        task, config(small_set, run={"epochs": 3, "dir": str(small_set / f"{task}-a")}, head=head, data=data)
    )
    train(
        task, config(small_set, run={"epochs": 1, "dir": str(small_set / f"{task}-b")}, head=head, data=data)
    )
    rows_file = small_set / f"{task}-b" / "metrics.jsonl"
    # A row beyond the newest checkpoint, as a kill between the two leaves it, must go.
    rows_file.write_text(rows_file.read_text() + '{"epoch": 2, "loss": 99}\n')
    resumed = train(
        task, config(small_set, run={"epochs": 3, "dir": str(small_set / f"{task}-b")}, head=head, data=data)
    )
    assert resumed["figures"] == straight["figures"]
    one, other = weights(small_set / f"{task}-a", 3), weights(small_set / f"{task}-b", 3)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    expected = [
        json.loads(line) for line in (small_set / f"{task}-a" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]
    kept = sorted(path.name for path in (small_set / f"{task}-b" / "checkpoints").iterdir())
    assert kept == ["epoch-0002", "epoch-0003"]


@pytest.mark.parametrize(("task", "metric"), [("tad", "detection"), ("apg", "proposals")])
def test_the_result_is_what_pal_eval_says_of_the_predictions(small_set, tmp_path, task, metric):
    result = train(
        task,
        config(small_set, run={"dir": str(tmp_path)}, head={"name": "bmn"}, post={"boundary": "product"}),
    )
    figures = evaluate(metric, str(small_set / "truth.json"), str(tmp_path / "predictions.json")).figures
    assert result["figures"] == figures
    assert json.loads((tmp_path / "result.json").read_text())["figures"] == figures
    assert json.loads((tmp_path / "STATUS.json").read_text()) == {"state": "done", "epoch": 2}
    assert (tmp_path / "report.html").exists()
    results = json.loads((tmp_path / "predictions.json").read_text())["results"]
    assert set(results) == {f"video{number}" for number in range(4)}


@pytest.mark.parametrize(
    "head",
    [{"name": "gtad"}, {"name": "actionformer", "hidden": 16, "levels": 3, "window": 5}],
    ids=["map", "moments"],
)
def test_a_benchmark_is_read_and_scored_in_its_own_way(small_set, tmp_path, head):
    """Ego4D's clips: another form, subsets of other names, lower thresholds."""
    database = json.loads((small_set / "truth.json").read_text())["database"]
    clips = [
        {
            "clip_uid": video,
            "video_start_sec": 7.0,
            "video_end_sec": 7.0 + entry["duration"],
            "annotations": [
                {
                    "labels": [
                        {
                            "label": x["label"],
                            "start_time": x["segment"][0],
                            "end_time": x["segment"][1],
                            "primary": 1,
                        }
                        for x in entry["annotations"]
                    ]
                }
            ],
        }
        for video, entry in database.items()
    ]
    for split in ("train", "val"):
        content = {"videos": [{"video_uid": "v", "split": split, "clips": clips}]}
        (tmp_path / f"moments_{split}.json").write_text(json.dumps(content))
    data = {
        "dataset": "ego4d_mq",
        "annotations": str(tmp_path / "moments_train.json"),
        "evaluate_annotations": str(tmp_path / "moments_val.json"),
        "train_subset": "train",
        "evaluate_subset": "val",
    }
    post = {"boundary": "none"}
    result = train(
        "tad", config(small_set, run={"dir": str(tmp_path / "run")}, data=data, head=head, post=post)
    )
    assert result["figures"]["tiou"] == [0.1, 0.2, 0.3, 0.4, 0.5]
    predictions = str(tmp_path / "run" / "predictions.json")
    again = evaluate("detection", data["evaluate_annotations"], predictions, dataset="ego4d_mq")
    assert again.figures == result["figures"]


def test_a_data_set_has_no_effect_on_grounding(small_set):
    with pytest.raises(ConfigError, match=r"data\.dataset = 'hacs': has no effect with head\.name=lgi"):
        config(
            small_set,
            data={"dataset": "hacs"},
            head={"name": "lgi", "hidden": 16, "word_dim": 8, "kernel": 3},
        )
    with pytest.raises(ConfigError, match=r"data\.dataset = 'hax': use one of activitynet"):
        config(small_set, data={"dataset": "hax"})


@pytest.mark.parametrize(
    "head",
    [{"durations": 12}, {"name": "actionformer", "hidden": 16, "levels": 3, "window": 5}],
    ids=["map", "moments"],
)
def test_windows_cover_long_and_short_videos(small_set, tmp_path, head):
    result = train(
        "apg",
        config(
            small_set,
            run={"dir": str(tmp_path)},
            data={"shape": "windows"},
            head=head,
            post={"boundary": "none", "longest_seconds": 3.0},
        ),
    )
    assert 0 < result["figures"]["AR"]["100"] <= 100
    results = json.loads((tmp_path / "predictions.json").read_text())["results"]
    truth = json.loads((small_set / "truth.json").read_text())["database"]
    for video, rows in results.items():
        spans = np.array([row["segment"] for row in rows])
        assert (spans[:, 1] <= truth[video]["duration"] + 1e-6).all()
        assert (spans[:, 1] - spans[:, 0] < 3.0 + 1e-6).all()
        assert spans[:, 1].max() > 0.7 * truth[video]["duration"]


@pytest.mark.parametrize("select", ["loss", "metric"])
def test_selection_keeps_the_best_epoch(small_set, tmp_path, select):
    settings = config(
        small_set, run={"dir": str(tmp_path), "epochs": 3, "select": select}, optimizer={"lr": 0.02}
    )
    result = train("apg", settings)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    merits = [-row["evaluation_loss"] if select == "loss" else row["value"] for row in rows]
    assert result["epoch"] == 1 + int(np.argmax(merits))
    assert result["figures"] == rows[result["epoch"] - 1]["figures"]


def test_a_run_is_not_mixed_with_another(small_set, tmp_path):
    train("apg", config(small_set, run={"dir": str(tmp_path), "epochs": 1}))
    with pytest.raises(ConfigError, match=r"optimizer\.lr = 0\.5: the run .* was started with 0\.001"):
        train("apg", config(small_set, run={"dir": str(tmp_path), "epochs": 2}, optimizer={"lr": 0.5}))
    with pytest.raises(ConfigError, match="holds a run of task apg"):
        train("tad", config(small_set, run={"dir": str(tmp_path), "epochs": 2}))


def test_a_run_begun_before_an_option_existed_goes_on_with_its_default(small_set, tmp_path):
    train("apg", config(small_set, run={"dir": str(tmp_path), "epochs": 1}))
    saved = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(saved.replace("  map_kernel: 3\n", ""))
    with pytest.raises(ConfigError, match=r"head\.map_kernel = 1: .* was started with 3"):
        train("apg", config(small_set, run={"dir": str(tmp_path), "epochs": 2}, head={"map_kernel": 1}))
    assert train("apg", config(small_set, run={"dir": str(tmp_path), "epochs": 2}))["epochs"] == 2


def test_a_head_must_do_the_task(small_set, tmp_path):
    with pytest.raises(ConfigError, match="task vg takes lgi"):
        train("vg", config(small_set, run={"dir": str(tmp_path)}))
    with pytest.raises(ConfigError, match="tiou"):
        train("apg", config(small_set, run={"dir": str(tmp_path)}, tiou="1:2"))
    with pytest.raises(
        ConfigError, match=r"post\.boundary = 'peaks': has no effect with head.name=actionformer"
    ):
        config(small_set, head={"name": "actionformer"}, post={"boundary": "peaks"})


def test_video_level_scores_name_what_the_anchor_free_head_finds(small_set, tmp_path):
    truth = json.loads((small_set / "truth.json").read_text())["database"]
    scores = {video: [{"label": "run", "score": 0.9}, {"label": "jump", "score": 0.1}] for video in truth}
    (tmp_path / "scores.json").write_text(json.dumps({"results": scores}))
    train(
        "tad",
        config(
            small_set,
            run={"dir": str(tmp_path / "run")},
            data={"class_scores": str(tmp_path / "scores.json")},
            head={"name": "actionformer", "hidden": 16, "levels": 3, "window": 5},
            post={"boundary": "none", "classes": 2},
        ),
    )
    results = json.loads((tmp_path / "run/predictions.json").read_text())["results"]
    assert {row["label"] for rows in results.values() for row in rows} == {"run", "jump"}


def test_missing_features_are_refused_beyond_the_allowed_share(small_set, tmp_path):
    database = json.loads((small_set / "truth.json").read_text())["database"]
    database["absent"] = {**database["video0"]}
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    data = {"annotations": str(tmp_path / "truth.json")}
    with pytest.raises(ConfigError, match=r"1 of 5 evaluated videos have no features .* 'absent'"):
        train("apg", config(small_set, run={"dir": str(tmp_path / "run")}, data=data))
    result = train(
        "apg", config(small_set, run={"dir": str(tmp_path / "run")}, data={**data, "missing": 0.2})
    )
    assert result["figures"]["AR"]["100"] < 100


def test_damaged_features_are_named(tmp_path):
    write_features(tmp_path, "good", np.ones((3, 4)))
    store = FeatureStore(str(tmp_path))
    assert store.load("good").centres_t.tolist() == pytest.approx([4 / 30, 12 / 30, 20 / 30])
    np.save(tmp_path / "v_good.npy", np.ones((2, 4), dtype=np.float32))
    with pytest.raises(FeatureError, match=r"v_good.npy: shape \[2, 4\], its sidecar says \[3, 4\]"):
        store.load("good")
    np.save(tmp_path / "v_good.npy", np.full((3, 4), np.nan, dtype=np.float32))
    with pytest.raises(FeatureError, match="aren't finite"):
        store.load("good")
    (tmp_path / "v_good.npy").write_bytes(b"x")
    with pytest.raises(FeatureError, match=r"v_good\.npy"):
        store.load("good")
    with pytest.raises(FeatureError, match=r"empty: holds no v_<id>\.npy"):
        FeatureStore(str(tmp_path / "empty"))


def test_class_scores_are_read_in_both_forms(tmp_path, small_set):
    rows = [{"label": "b", "score": 0.2}, {"label": "a", "score": 0.8}]
    (tmp_path / "plain.json").write_text(json.dumps({"results": {"video0": rows}}))
    (tmp_path / "cuhk.json").write_text(json.dumps({"class": ["a", "b"], "results": {"video0": [0.8, 0.2]}}))
    features = FeatureStore(str(small_set / "features")).load("video0")
    for name in ("plain.json", "cuhk.json"):
        scores = VideoScores(str(tmp_path / name))
        assert scores.label(features, np.zeros((2, 2)), 1) == [[("a", 0.8)]] * 2
    (tmp_path / "odd.json").write_text(json.dumps({"results": {"video0": [0.8]}}))
    with pytest.raises(ConfigError, match="is neither"):
        VideoScores(str(tmp_path / "odd.json"))
    with pytest.raises(AnnotationError):
        VideoScores(str(tmp_path / "none.json"))


def test_pooling_a_segment(small_set):
    features = FeatureStore(str(small_set / "features")).load("video0")
    spans = np.array([[0.0, 20 / 30], [4 / 30 + 0.01, 4 / 30 + 0.02]])
    pooled = pool(features, spans)
    np.testing.assert_allclose(pooled[0], features.values_tc[:3].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(pooled[1], features.values_tc[0], rtol=1e-5)


# The files of configs/transfer, with what a user must give.
CONFIGS = sorted((ROOT / "configs" / "transfer").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_fit_their_task(path):
    made = load_tree(path)
    made.setdefault("run", {})["dir"] = "x"
    made.setdefault("data", {}).update(features="x", annotations="x")
    task = path.stem.partition("_")[0]
    if task == "tac":
        made["data"] = {
            "shards": "x",
            **{key: value for key, value in made["data"].items() if key not in ("features", "annotations")},
        }
        made.setdefault("model", {})["backbone"] = "x"
        build(TacConfig, made)
    elif task == "e2e":
        made["data"] |= {"videos": made["data"].pop("features")}
        build(EndToEndConfig, made)
    else:
        build(TransferConfig, made).check_task(task)


def command(*words):
    return [sys.executable, str(ROOT / "launch" / "transfer.py"), *map(str, words)]


def run(*words):
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, cwd="/")


def test_command_refuses_in_one_line(tmp_path):
    (tmp_path / "c.yaml").write_text("run: {dri: x}\n")
    for words, message in (
        (("--task", "tad", "--config", tmp_path / "c.yaml"), "did you mean run.dir"),
        (("--task", "tad", "--config", tmp_path / "none.yaml"), "no such file"),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert "optimizer.drop_after" in run("--options").stdout
    many = subprocess.run(
        command("--task", "tad", "--config", "c.yaml"),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "WORLD_SIZE": "2"},
    )
    assert (many.returncode, "one process" in many.stderr) == (2, True)


@pytest.mark.slow
def test_command_stopped_by_a_signal_exits_75_and_goes_on(small_set, tmp_path):
    words = [
        "--task", "apg", "--config", ROOT / "configs/transfer/apg_activitynet_bmn.yaml",
        f"data.features={small_set / 'features'}", f"data.annotations={small_set / 'truth.json'}",
        f"run.dir={tmp_path}", "head.snippets=16", "head.durations=16", "head.hidden_3d=32", "run.device=cpu",
    ]  # fmt: skip
    script = ROOT / "launch" / "transfer.py"
    endless = [str(word) for word in (script, *words, "run.epochs=100000")]
    process = fork_server().start(endless, env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "metrics.jsonl").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75
    assert "run the same command to go on" in errors
    status = json.loads((tmp_path / "STATUS.json").read_text())
    assert status["state"] == "preempted"
    done = run_python([script, *words, f"run.epochs={status['epoch'] + 1}"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == status["epoch"] + 1
    assert f"going on after epoch {status['epoch']}" in done.stderr


def test_a_run_whose_config_lists_the_options_of_all_heads_goes_on(small_set, tmp_path):
    """Runs begun when one section held the options of every head."""
    wanted = {"run": {"epochs": 1, "dir": str(tmp_path / "run")}}
    train("apg", config(small_set, **wanted))
    written = tmp_path / "run" / "config.yaml"
    text = written.read_text()
    assert "phrases" not in text
    written.write_text(text.replace("head:\n", "head:\n  phrases: 3\n  levels: 6\n  word_dim: 300\n"))
    assert train("apg", config(small_set, run={**wanted["run"], "epochs": 2}))["epochs"] == 2
    written.write_text(text.replace("durations:", "durations: 7 #"))
    with pytest.raises(ConfigError, match=r"head\.durations"):
        train("apg", config(small_set, run={**wanted["run"], "epochs": 3}))


@pytest.mark.parametrize(
    ("task", "sections", "message"),
    [
        ("tad", {"head": {"name": "gtad", "kernel": 3, "levels": 2}}, "head.kernel = 3: has no effect"),
        ("tad", {"head": {"name": "gtad", "phrasess": 3}}, "head.phrasess = 3: unknown key"),
        ("vg", {"head": {"name": "lgi"}, "post": {"sigma": 0.3}}, "post.sigma = 0.3: has no effect"),
        ("apg", {"head": {"name": "bmn"}, "post": {"classes": 5}}, "post.classes = 5: has no effect with --task apg"),
    ],
)  # fmt: skip
def test_settings_without_effect_are_refused(small_set, tmp_path, task, sections, message):
    with pytest.raises(ConfigError) as caught:
        train(task, config(small_set, run={"epochs": 1, "dir": str(tmp_path)}, **sections))
    assert message in str(caught.value)
