"""The demonstration: `python -m launch.demo`, or `make demo`.

Real videos and rendered motion capture -> a real S3 server on loopback -> pal-shard -> two ranks under the deepspeed
launcher, streaming from s3:// -> stopped in the middle and resumed -> has it learned? -> frozen features, trained and
untrained, asked for actions in unseen videos -> one report.html, and the page of a localized video.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from corpora import footage
from launch.demo import localize, one_video
from launch.demo.console import Console
from launch.demo.s3_server import S3Server
from launch.demo.training import judge, train
from pal_ds.viz.report_page import Section

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "pal-demo"
#: The held-out recording that is looked at closely, and when in it a cyclist waits at the kerb, in seconds.
CLOSE_UP = "street.mp4"
CLOSE_UP_ACTION = (3.1, 5.6)
STEPS, HEAD_EPOCHS = 190, 20


def main() -> int:
    """Run the demonstration; the last line on stdout is ``report: PATH``."""
    args = _parser().parse_args()
    folder: Path = args.folder.resolve()
    console = Console(folder / "logs", 6 if args.fast else 9, verbose=args.verbose)
    recordings = _corpus(console, folder)
    findings: list[str] = []
    with S3Server(folder / "s3") as server:
        os.environ.update(server.env)
        bucket = server.bucket(BUCKET)
        shards, run = f"{bucket}/shards", f"{bucket}/run"
        build = _build_shards(console, folder, shards)
        train(console, shards, run, 24 if args.fast else STEPS, args.lr)
        findings.append(judge(run))
        sections = () if args.fast else _localize(console, folder, run, findings)
        report = _report(console, folder, run, build, recordings, sections)
    console.say("")
    console.say("What it has shown, each figure beside its control:")
    for finding in findings:
        console.say(finding)
    print(f"report: {report}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m launch.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo", help="where everything is kept")
    parser.add_argument(
        "--fast", action="store_true", help="a few steps and no detection: does everything run?"
    )
    parser.add_argument(
        "--lr", type=float, help="another learning rate; 0 shows what is said of a run that can't learn"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show all that the commands print (it is in FOLDER/logs too)"
    )
    return parser


def _corpus(console: Console, folder: Path) -> list[footage.Recording]:
    """Bring real footage and rendered motion capture together in one clip list."""
    with console.stage("fetch real footage") as stage:
        recordings = footage.fetch(folder / "footage", console.note)
        rows = footage.clips(recordings, folder / "footage")
        stage.detail = f"{len(recordings)} recordings, {len(rows)} clips"
    with console.stage("render annotated motion capture") as stage:
        words = [
            "--size",
            "demo",
            "--only",
            "untrimmed",
            "--no-page",
            "--json",
            "--out",
            str(folder / "mocap"),
        ]
        console.run([sys.executable, "-m", "corpora.mocap", *words])
        moments = localize.annotate(folder)
        rendered = footage.rendered_clips(folder)
        stage.detail = f"videos with {moments} actions, cut into {len(rendered)} clips without a look at them"
    footage.write_csv([*rows, *rendered], folder / "clips.csv")
    return recordings


def _build_shards(console: Console, folder: Path, shards: str) -> dict[str, Any]:
    with console.stage("pack shards into s3:// with pal-shard") as stage:
        words = ["build", str(folder / "clips.csv"), shards, "--video-root", str(folder), "--split-column"]
        words += ["--with-labels", "--short-side", "72", "--shard-bytes", "2MB", "--json"]
        command = str(Path(sys.executable).parent / "pal-shard")
        build: dict[str, Any] = json.loads(console.run([command, *words], accepted=(0, 3)))
        console.run([command, "verify", shards, "--json"])
        splits = build["splits"]
        stage.detail = f"{splits['train']['clips']} training and {splits['val']['clips']} held-out clips"
    return build


def _localize(console: Console, folder: Path, run: str, findings: list[str]) -> tuple[Section, ...]:
    encoders = {localize.TRAINED: run, localize.UNTRAINED: f"{run}/untrained.safetensors"}
    with console.stage("probe frozen features for actions") as stage:
        localize.extract(folder, encoders, progress=console.progress)
        probed, lines = localize.describe_probe(localize.probe(folder))
        stage.detail = lines[-1]
    findings.append("\n".join(("AUC of action against background within unseen videos, percent:", *lines)))
    with console.stage("detect actions with G-TAD heads") as stage:
        results = localize.detect(folder, epochs=HEAD_EPOCHS, progress=console.progress)
        detected, lines = localize.describe_detection(results)
        stage.detail = lines[-1]
    findings.append("\n".join(("Detection on videos that the heads haven't seen, percent:", *lines)))
    with console.stage("localize an unseen video with pal-localize") as stage:
        head = localize.run_of(folder, localize.TRAINED, localize.SEEDS[0])
        localized, line = one_video.localize_one(console, folder, encoder=run, head=head)
        stage.detail = line.splitlines()[0].removesuffix(" Its page:")
    findings.append(line)
    return probed, detected, localized


def _report(
    console: Console,
    folder: Path,
    run: str,
    build: dict[str, Any],
    recordings: list[footage.Recording],
    sections: tuple[Section, ...],
) -> Path:
    from launch.demo.pictures import similarity_picture
    from pal_ds.viz.report_page import StepRun, Table, write_report
    from pal_ds.viz.run_facts import collect_run, read_config
    from pal_ds.viz.training_pairs import training_pairs

    with console.stage("draw the report"):
        strips = training_pairs(read_config(run))
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
        strips=(strips,) if strips is not None else (),
        similarity=(close_up,),
        sections=sections,
        steps=tuple(
            StepRun(name=name, seconds=seconds, detail=detail) for name, seconds, detail in console.done
        ),
        corpus=Table(header=("action", "recording", "used for"), rows=rows),
        facts=(*data.facts, ("Clips packed", f"{build['clips']}, {build['rejected']} rejected")),
    )
    path = folder / "report.html"
    write_report(data, str(path))
    return path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"\ndemo: failed: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: stopped\n")
        sys.exit(130)
