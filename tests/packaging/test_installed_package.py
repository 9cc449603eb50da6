"""What a pip user has: wheel and sdist hold everything, and every command works where there is no checkout."""

from __future__ import annotations

import configparser
import email
import json
from pathlib import Path

import pytest

import pal_ds
from tests.support.extract_fixtures import ffmpeg, make_video
from tests.support.installed import Installation, build, copy_source, files_in, free_port, unpack
from tests.support.launching import TINY, training_rows

COMMANDS = {
    "pal-shard": "pal_ds.shards.cli",
    "pal-pretrain": "pal_ds.cli.pretrain",
    "pal-extract": "pal_ds.cli.extract",
    "pal-transfer": "pal_ds.cli.transfer",
    "pal-localize": "pal_ds.cli.localize",
    "pal-eval": "pal_ds.cli.evaluate",
    "pal-doctor": "pal_ds.cli.doctor",
    "pal-report": "pal_ds.cli.report",
}
#: Folders of the repository, and where they are installed.
INSTALLED = {"pal_ds": "pal_ds", "shards": "pal_ds/shards", "configs": "pal_ds/configs"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_source(tmp_path_factory.mktemp("source") / "pal-ds")


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_below_one_name(wheel: Path, source: Path):
    found = files_in(wheel)
    expected = {
        f"{place}/{path.relative_to(source / folder).as_posix()}": path.read_bytes()
        for folder, place in INSTALLED.items()
        for path in (source / folder).rglob("*")
        if path.is_file()
    }
    about = {name for name in found if name.split("/")[0] == f"pal_ds-{pal_ds.__version__}.dist-info"}
    assert found.keys() - about == expected.keys()
    assert {name: found[name] for name in expected} == expected


def test_what_the_wheel_says_about_itself(wheel: Path):
    about = {
        Path(name).name: data.decode() for name, data in files_in(wheel).items() if ".dist-info/" in name
    }
    metadata = email.message_from_string(about["METADATA"])
    assert (metadata["Name"], metadata["Version"]) == ("pal-ds", pal_ds.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert all(metadata.get_all(name) for name in ("Author", "Keywords", "Classifier", "Project-URL"))
    scripts = configparser.ConfigParser()
    scripts.read_string(about["entry_points.txt"])
    assert dict(scripts["console_scripts"]) == {name: f"{module}:main" for name, module in COMMANDS.items()}


def test_the_sdist_gives_the_same_wheel_and_commands_that_start(sdist: Path, wheel: Path, tmp_path: Path):
    again = build("wheel", unpack(sdist, tmp_path / "unpacked"), tmp_path / "again")
    assert files_in(again) == files_in(wheel)
    installed = Installation(tmp_path / "from-sdist", sdist)
    for name, module in COMMANDS.items():
        assert installed.run(name, "--version") == f"{name} {pal_ds.__version__}\n"
        assert installed.run_module(module, "--version") == f"{name} {pal_ds.__version__}\n"
        assert f"usage: {name}" in installed.run(name, "--help")
    names = [line.split()[0] for line in installed.run("pal-pretrain", "configs").splitlines()]
    assert {"demo", "pal_i3d_k400", "tad_thumos_gtad"} <= set(names)


def test_from_videos_to_figures_outside_the_checkout(wheel: Path, tmp_path: Path):
    installed = Installation(tmp_path, wheel)
    nothing_of_the_checkout(installed)
    shards, run = make_shards(installed), pretrain(installed)
    assert json.loads((shards / "manifest.json").read_text())["splits"].keys() == {"train", "val"}
    assert json.loads((run / "environment.json").read_text())["commit"] is None
    truth = untrimmed(installed.work)
    installed.run("pal-pretrain", "export", run, "--out", "backbone.safetensors")
    installed.run("pal-extract", "--checkpoint", "backbone.safetensors", "--videos", "untrimmed",
                  "--out", "features", "--stride", 4, "--device", "cpu")  # fmt: skip
    result = installed.run("pal-transfer", "--task", "tad", "--config", "tad_demo_gtad", "data.features=features",
                           f"data.annotations={truth}", "data.evaluate_subset=training", "run.dir=tad",
                           "run.device=cpu", "run.epochs=2", "head.snippets=20", "head.durations=20",
                           "head.hidden_1d=32", "head.hidden_3d=16")  # fmt: skip
    scored = installed.run("pal-eval", "detection", "--ground-truth", truth, "--subset", "training",
                           "--tiou", "0.3:0.7:0.1", "--predictions", "tad/predictions.json", "--json")  # fmt: skip
    assert json.loads(scored) == json.loads(result)["figures"]
    assert "average_mAP" in json.loads(scored)
    page = installed.run_module("pal_ds.cli.report", run, "--out", "report.html")
    assert (installed.work / "report.html").stat().st_size > 1000, page


def nothing_of_the_checkout(installed: Installation) -> None:
    code = (
        "import importlib.util as u, pal_ds, pal_ds.shards, json; print(json.dumps([pal_ds.__file__, "
        "pal_ds.shards.__file__, *(name for name in ('shards', 'corpora', 'launch') if u.find_spec(name))]))"
    )
    site = Path(installed.evaluate("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    package = site / "pal_ds"
    assert json.loads(installed.evaluate(code)) == [
        str(package / "__init__.py"),
        str(package / "shards" / "__init__.py"),
    ]


def make_shards(installed: Installation) -> Path:
    """20 tiny clips packed by two worker processes."""
    (installed.work / "clips").mkdir()
    for number in range(20):
        drawn = f"gradients=s=48x36:r=25:d=2.4:n=2:seed={number}:speed=0.01"
        place = str(installed.work / "clips" / f"clip-{number:02d}.mp4")
        ffmpeg(
            "-f",
            "lavfi",
            "-i",
            drawn,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            place,
        )
    options = ("--val-fraction", 0.3, "--short-side", 36, "--shard-bytes", "100KB", "--workers", 2, "--json")
    made = json.loads(installed.run("pal-shard", "build", "clips", "shards", *options))
    assert made["exit_status"] == 0
    return installed.work / "shards"


def pretrain(installed: Installation) -> Path:
    """Four steps under the deepspeed launcher, four more under torch's; two ranks each."""
    words = ("--config", "demo", "data.shards=shards", "run.dir=run", *TINY)
    module = "pal_ds.cli.pretrain"
    deepspeed = (
        "deepspeed.launcher.runner",
        "--num_accelerators",
        2,
        "--master_port",
        free_port(),
        "--module",
    )
    installed.run_module(*deepspeed, module, *words, "run.max_steps=4")
    torchrun = ("torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}", "-m")
    installed.run_module(*torchrun, module, *words, "data.workers=0", "run.max_steps=8")
    run = installed.work / "run"
    status = json.loads((run / "STATUS.json").read_text())
    assert (status["state"], status["step"]) == ("done", 8)
    assert sorted(training_rows(run)) == list(range(1, 9))
    return run


def untrimmed(folder: Path) -> Path:
    """Three longer videos and the actions in them."""
    database = {}
    for number, source in enumerate(("testsrc2", "mandelbrot", "smptebars")):
        make_video(folder / "untrimmed" / f"v_clip{number}.mp4", seconds=6.0, source=source)
        segments = [{"segment": [1.0 + number, 3.5 + number / 2], "label": f"action {number}"}]
        database[f"clip{number}"] = {"subset": "training", "annotations": segments}
    truth = folder / "truth.json"
    truth.write_text(json.dumps({"database": database}))
    return truth
