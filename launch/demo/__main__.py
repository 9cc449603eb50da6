"""The demonstration: `python -m launch.demo`, or `make demo`.

Real videos and rendered motion capture -> a real S3 server on loopback -> pal-shard -> two ranks under the deepspeed
launcher, streaming from s3:// -> stopped in the middle and resumed -> has it learned? -> frozen features, trained and
untrained, asked for actions in unseen videos -> one report.html.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pal_ds.viz.report_page import Section

from corpora import footage
from launch.demo import localize
from launch.demo.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "pal-demo"
#: The held-out recording that is looked at closely, and when in it a cyclist waits at the kerb, in seconds.
CLOSE_UP = "street.mp4"
CLOSE_UP_ACTION = (3.1, 5.6)
EXIT_PREEMPTED = 75
STEPS, HEAD_EPOCHS = 190, 20
#: Its set has 300 clips, so batches can be larger than in configs/demo.yaml, which runs on any set; then the batch
#: alone gives better negatives than a queue, whose keys are of networks some steps old.
LARGER = (
    "data.global_batch=64",
    "objective.negatives=batch",
    "queue.mask_unfilled=false",
    "queue.size=256",
)
say = footage.Say()


@dataclasses.dataclass
class Journal:
    """The steps that were run, for the report's table."""

    steps: list[tuple[str, float, str]] = dataclasses.field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; the list takes its detail line."""
        say(f"{name} ...")
        started = time.monotonic()
        detail: list[str] = []
        yield detail
        seconds = time.monotonic() - started
        self.steps.append((name, seconds, detail[0] if detail else ""))
        say(f"{name}: {seconds:.1f} s{'  ' + detail[0] if detail else ''}")


def main() -> int:
    """Run the demonstration; the last line on stdout is ``report: PATH``."""
    parser = argparse.ArgumentParser(prog="python -m launch.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo", help="where everything is kept")
    parser.add_argument(
        "--fast", action="store_true", help="a few steps and no detection: does everything run?"
    )
    parser.add_argument(
        "--lr", type=float, help="another learning rate; 0 shows what is said of a run that can't learn"
    )
    args = parser.parse_args()
    folder: Path = args.folder.resolve()
    journal = Journal()
    recordings = _corpus(journal, folder)
    with S3Server(folder / "s3") as server:
        os.environ.update(server.env)
        bucket = server.bucket(BUCKET)
        shards, run = f"{bucket}/shards", f"{bucket}/run"
        build = _build_shards(journal, folder, shards)
        _train(journal, shards, run, 24 if args.fast else STEPS, args.lr)
        verdict = _judge(run)
        sections = () if args.fast else _localize(journal, folder, run)
        report = _report(journal, folder, run, build, recordings, sections)
    say(verdict)
    print(f"report: {report}")
    return 0


def _corpus(journal: Journal, folder: Path) -> list[footage.Recording]:
    """Bring real footage and rendered motion capture together in one clip list."""
    with journal.step("fetch real footage") as detail:
        recordings = footage.fetch(folder / "footage", say)
        rows = footage.clips(recordings, folder / "footage")
        detail.append(f"{len(recordings)} recordings, {len(rows)} clips")
    with journal.step("render annotated motion capture (corpora.mocap)") as detail:
        words = [
            "--size",
            "demo",
            "--only",
            "untrimmed",
            "--out",
            str(folder / "mocap"),
            "--no-page",
            "--json",
        ]
        subprocess.run(
            [sys.executable, "-m", "corpora.mocap", *words], cwd=ROOT, check=True, stdout=sys.stderr
        )
        moments = localize.annotate(folder)
        rendered = footage.rendered_clips(folder)
        detail.append(
            f"untrimmed videos with {moments} actions, cut into {len(rendered)} clips without a look at them"
        )
    footage.write_csv([*rows, *rendered], folder / "clips.csv")
    return recordings


def _build_shards(journal: Journal, folder: Path, shards: str) -> dict[str, Any]:
    with journal.step("pack shards into s3:// (pal-shard build, verify)") as detail:
        csv = str(folder / "clips.csv")
        words = [
            "build",
            csv,
            shards,
            "--video-root",
            str(folder),
            "--split-column",
            "--with-labels",
            "--json",
        ]
        words += ["--short-side", "72", "--shard-bytes", "2MB"]
        build = _pal_shard(words, accepted=(0, 3))
        _pal_shard(["verify", shards, "--json"], accepted=(0,))
        splits = build["splits"]
        detail.append(f"{splits['train']['clips']} training and {splits['val']['clips']} held-out clips")
    return build


def _train(journal: Journal, shards: str, run: str, steps: int, rate: float | None) -> None:
    """Train on two ranks; ask for a stop in the middle, as a cloud would, and run the same command again."""
    middle = steps * 2 // 5
    command = [
        str(Path(sys.executable).parent / "deepspeed"),
        "--num_accelerators",
        "2",
        "--master_port",
        str(_free_port()),
        "launch/pretrain.py",
        "--config",
        "configs/demo.yaml",
        f"data.shards={shards}",
        f"run.dir={run}",
        f"run.max_steps={steps}",
        *LARGER,
        *_device(),
        *([] if rate is None else [f"optimizer.lr={rate}"]),
    ]
    with journal.step("pre-train on two ranks, stopped in the middle") as detail:
        status = _launch([*command, "--restart", "--overwrite"], stop_at=middle)
        if status != EXIT_PREEMPTED:
            raise RuntimeError(
                f"the first launch ended with status {status}, expected {EXIT_PREEMPTED} (preempted)"
            )
        detail.append(f"SIGTERM at step {middle}: saved and left with status {status}")
    with journal.step("resume from the checkpoint in s3://") as detail:
        status = _launch(command)
        if status:
            raise RuntimeError(f"the second launch ended with status {status}")
        detail.append(f"to step {steps}")


def _device() -> list[str]:
    """Return the setting that keeps two ranks on the CPU where there are no two GPUs."""
    import torch

    return [] if torch.cuda.device_count() >= 2 else ["run.device=cpu"]


def _launch(command: list[str], *, stop_at: int | None = None) -> int:
    """Run the launcher; with ``stop_at`` send SIGTERM to one rank when that step is reached."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=sys.stderr, text=True
    )
    stopped = False
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        step = _step_of(line)
        if stop_at is not None and not stopped and step is not None and step >= stop_at:
            os.kill(_rank_process(process.pid), signal.SIGTERM)
            stopped = True
    return process.wait()


def _step_of(line: str) -> int | None:
    words = line.split()
    if words[:1] == ["step"] and len(words) > 1 and "/" in words[1]:
        return int(words[1].partition("/")[0])
    return None


def _rank_process(launcher: int) -> int:
    """Return the process id of a training rank below the ``deepspeed`` command: the last one, as it happens."""
    import psutil

    ranks = [
        child.pid
        for child in psutil.Process(launcher).children(recursive=True)
        if any(word.endswith("launch/pretrain.py") for word in child.cmdline())
        and "deepspeed.launcher.launch" not in child.cmdline()
        and child.environ().get("LOCAL_RANK") == "1"
    ]
    return min(ranks)


def _judge(run: str) -> str:
    """Return what the run's figures say beside the untrained network's, for the console."""
    from pal_ds.viz.run_facts import collect_run

    verdict = collect_run(run).verdict
    assert verdict is not None
    return "\n  ".join((f"{verdict.headline}.", *verdict.reasons, *verdict.warnings))


def _localize(journal: Journal, folder: Path, run: str) -> tuple[Section, ...]:
    with journal.step("extract features of untrimmed videos (launch/extract.py), probe them") as detail:
        localize.extract(folder, {localize.TRAINED: run, localize.UNTRAINED: f"{run}/untrained.safetensors"})
        probed, lines = localize.describe_probe(localize.probe(folder))
        detail.append("AUC of action against background within unseen videos, percent:")
    say("\n  ".join(["", *lines]))
    with journal.step("detect actions from frozen features (launch/transfer.py)") as detail:
        detected, lines = localize.describe_detection(localize.detect(folder, epochs=HEAD_EPOCHS))
        detail.append("mAP on videos the head hasn't seen, percent:")
    say("\n  ".join(["", *lines]))
    return probed, detected


def _report(
    journal: Journal,
    folder: Path,
    run: str,
    build: dict[str, Any],
    recordings: list[footage.Recording],
    sections: tuple[Section, ...],
) -> Path:
    from pal_ds.viz.report_page import StepRun, Table, write_report

    from launch.demo.pictures import similarity_picture, training_pairs
    from pal_ds import storage
    from pal_ds.config import load_config
    from pal_ds.viz.run_facts import collect_run

    with journal.step("draw the report"):
        config_file = folder / "config.yaml"
        config_file.write_bytes(storage.read_bytes(f"{run}/config.yaml"))
        strips = training_pairs(load_config(config_file, ["data.workers=0"]))
        close_up = similarity_picture(
            folder / "footage" / CLOSE_UP,
            run,
            action=CLOSE_UP_ACTION,
            title="A scene found again: faster and earlier, slower and later",
        )
        data = collect_run(run, title="PAL: a first run")
    rows = tuple((recording.label, recording.name, recording.split) for recording in recordings)
    data = dataclasses.replace(
        data,
        strips=(strips,),
        similarity=(close_up,),
        sections=sections,
        steps=tuple(
            StepRun(name=name, seconds=seconds, detail=detail) for name, seconds, detail in journal.steps
        ),
        corpus=Table(header=("action", "recording", "used for"), rows=rows),
        facts=(*data.facts, ("Clips packed", f"{build['clips']}, {build['rejected']} rejected")),
    )
    path = folder / "report.html"
    write_report(data, str(path))
    return path


def _pal_shard(words: list[str], *, accepted: tuple[int, ...]) -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "pal-shard"), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in accepted:
        raise RuntimeError(f"pal-shard {words[0]} ended with status {done.returncode}: {done.stdout[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"demo: failed: {error}\n")
        sys.exit(1)
