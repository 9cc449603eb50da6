"""The extraction command: sources, resuming, failures, ranks and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.cli.extract import main
from pal_ds.formats.feature_folder import FeatureStore
from pal_ds.transfer.extraction import video_source
from pal_ds.transfer.extraction.video_source import (
    VideoRef,
    VideoSourceError,
    deal_videos,
    list_videos,
    open_video,
)
from tests.support.extract_fixtures import ffmpeg, make_video, write_checkpoint, write_shard_set
from tests.support.fork_server import fork_server, run_python

SCRIPT = Path(__file__).resolve().parents[3] / "launch" / "extract.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        make_video(
            folder / f"v_{number}.mp4",
            seconds=1 + number,
            source=["testsrc2", "testsrc", "rgbtestsrc"][number],
        )
    return folder


def extract(run: Path | str, videos: Path | str, out: Path | str, *more: str) -> int:
    return main(
        ["--checkpoint", str(run), "--videos", str(videos), "--out", str(out), "--device", "cpu", *more]
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_writes_arrays_and_sidecars_once(
    run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert extract(run, videos, out, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["videos"], first["written"], first["failed"]) == (3, 3, 0)
    array = np.load(out / "v_2.npy")
    sidecar = json.loads((out / "v_2.json").read_text())
    assert array.dtype == np.float32
    assert array.shape == (9, sidecar["feature_dim"])
    assert (sidecar["fps"], sidecar["stride"], sidecar["offset"], sidecar["frames"]) == (25.0, 8, 0, 75)
    assert sidecar["duration"] == pytest.approx(3.0)
    before = contents(out)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert extract(run, videos, out, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["written"], second["skipped"]) == (0, 3)
    assert contents(out) == before
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps


def test_half_written_video_is_done_again(run: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert extract(run, videos, out) == 0
    whole = contents(out)
    (out / "v_1.json").unlink()
    (out / "v_1.npy").write_bytes(b"cut")
    assert extract(run, videos, out) == 0
    assert contents(out) == whole


def test_broken_videos_are_listed_and_the_rest_goes_on(
    run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    good = (videos / "v_1.mp4").read_bytes()
    (folder / "good.mp4").write_bytes(good)
    (folder / "noise.mp4").write_bytes(os.urandom(5000))
    (folder / "empty.webm").write_bytes(b"")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(folder / "audio.mp4"))
    out = tmp_path / "out"
    assert extract(run, folder, out) == 3
    rows = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["audio", "empty", "noise"]
    assert all(row["error"] and row["source"] for row in rows)
    assert FeatureStore(str(out)).ids == ["good"]
    assert "errors.jsonl" in capsys.readouterr().out
    for name in ("noise.mp4", "empty.webm", "audio.mp4"):
        (folder / name).write_bytes(good)
    assert extract(run, folder, out) == 0
    assert not (out / "errors.jsonl").exists()
    assert len(FeatureStore(str(out))) == 4


def test_a_broken_video_whose_name_is_in_no_encoding_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "videos") + b"/caf\xe9.mp4")).write_text("no video")
    command = [sys.executable, str(SCRIPT), "--checkpoint", str(run)]
    command += ["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "first: caf\\udce9.mp4: " in done.stdout


def test_other_settings_need_another_folder_or_overwrite(
    run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert extract(run, videos, out) == 0
    assert extract(run, videos, out, "--stride", "4") == 2
    assert "stride" in capsys.readouterr().err
    write_checkpoint(tmp_path / "other", seed=7)
    assert extract(tmp_path / "other", videos, out) == 2
    assert "checkpoint" in capsys.readouterr().err
    (out / "v_gone.npy").write_bytes(b"of a video that is no longer there")
    assert extract(run, videos, out, "--stride", "4", "--overwrite") == 0
    assert not (out / "v_gone.npy").exists()
    assert len(np.load(out / "v_2.npy")) == 17


def test_interrupted_overwrite_is_not_taken_for_finished(run: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert extract(run, videos, out) == 0
    (out / "extract.json").unlink()
    assert extract(run, videos, out) == 2
    assert extract(run, videos, out, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--stride", "-1"], "--stride"),
        (["--batch", "0"], "--batch"),
        (["--short-side", "8"], "--short-side"),
        (["--device", "warp"], "--device"),
        (["--split", "val"], "--split"),
        (["--annotations", "x.json"], "--annotations"),
    ],
)
def test_wrong_settings_are_one_line_and_status_2(
    run: Path,
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    assert extract(run, videos, tmp_path / "out", *arguments) == 2
    message = capsys.readouterr().err
    assert word in message
    assert message.count("\n") == 1


def test_sources_are_told_apart(videos: Path, tmp_path: Path) -> None:
    assert [video.id for video in list_videos(str(videos))] == ["0", "1", "2"]
    assert [video.id for video in list_videos(str(videos / "v_1.mp4"))] == ["1"]
    with pytest.raises(VideoSourceError, match="no videos"):
        list_videos(str(tmp_path / "absent"))
    for name in ("a/clip.mp4", "b/clip.avi"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(VideoSourceError, match="two videos have the id 'clip'"):
        list_videos(str(tmp_path))


@pytest.mark.parametrize("whole", [True, False])
def test_shard_set_gives_the_features_of_its_videos(
    run: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    if not whole:  # as for a sample too large to be read by one request
        monkeypatch.setattr(video_source, "_WHOLE_SAMPLE_BYTES", 0)
    write_shard_set(tmp_path / "set", sorted(videos.iterdir()))
    assert extract(run, videos, tmp_path / "a") == 0
    assert extract(run, tmp_path / "set", tmp_path / "b", "--split", "val") == 0
    for number in range(3):
        assert (tmp_path / "a" / f"v_{number}.npy").read_bytes() == (
            tmp_path / "b" / f"v_v_{number}.npy"
        ).read_bytes()
    assert extract(run, tmp_path / "set", tmp_path / "c", "--split", "train") == 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60), st.integers(1, 9))
def test_every_video_is_dealt_to_one_rank_and_loads_are_even(sizes: list[int], world_size: int) -> None:
    videos = [VideoRef(id=str(n), source="", url="", bytes=size) for n, size in enumerate(sizes)]
    hands = [deal_videos(videos, rank, world_size) for rank in range(world_size)]
    assert sorted(video.id for hand in hands for video in hand) == sorted(video.id for video in videos)
    loads = [sum(video.bytes for video in hand) for hand in hands]
    assert max(loads) - min(loads) <= max(sizes)


@pytest.mark.slow
def test_object_store_to_object_store_is_the_same(
    run: Path, videos: Path, tmp_path: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_env.bucket("extract")
    bucket = bucket if bucket.startswith("s3://") else f"s3://{bucket}"
    for path in [*videos.iterdir(), *(run / "checkpoints").rglob("*")]:
        if path.is_file():
            root = videos.parent if path.parent == videos else run
            name = f"videos/{path.name}" if path.parent == videos else f"run/{path.relative_to(root)}"
            storage.upload_file(path, f"{bucket}/{name}")
    monkeypatch.setattr(video_source, "BLOCK_BYTES", 4096)
    assert extract(run, videos, tmp_path / "local") == 0
    assert extract(f"{bucket}/run", f"{bucket}/videos", f"{bucket}/out") == 0
    for name, data in contents(tmp_path / "local").items():
        assert storage.read_bytes(f"{bucket}/out/{name}") == data
    source = open_video(list_videos(f"{bucket}/videos")[0])
    assert not isinstance(source, str)


@pytest.mark.slow
def test_what_the_decoder_misreads_is_read_through_ffmpeg_from_files_and_object_stores(
    run: Path,
    tmp_path: Path,
    s3_env: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    folder = tmp_path / "videos"
    folder.mkdir()
    program = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=96x64:r=25:d=2",
        "-c:v",
        "mpeg2video",
        "-q:v",
        "2",
        "-f",
        "vob",
    )
    ffmpeg(*program, str(folder / "program.mpg"))
    # Its size changes so late that features were made before the decoder fails.
    parts = [("96x64", 1.6, "0"), ("64x48", 0.4, "1.6")]
    pieces = []
    for size, seconds, offset in parts:
        piece = tmp_path / f"{size}.ts"
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={seconds}", "-c:v", "libx264", "-bf", "0",
               "-output_ts_offset", offset, str(piece))  # fmt: skip
        pieces.append(piece.read_bytes())
    (folder / "sizes.ts").write_bytes(b"".join(pieces))
    bucket = s3_env.bucket("misread")
    bucket = bucket if bucket.startswith("s3://") else f"s3://{bucket}"
    for path in folder.iterdir():
        storage.upload_file(path, f"{bucket}/videos/{path.name}")
    assert extract(run, folder, tmp_path / "out") == 0
    assert extract(run, f"{bucket}/videos", tmp_path / "remote", "--workers", "2") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "remote")
    features = FeatureStore(str(tmp_path / "out"))
    for name in ("program", "sizes"):
        sidecar = features.sidecar(name)
        assert (sidecar.frames, sidecar.fps, sidecar.duration) == (50, 25.0, pytest.approx(2.0))
        assert sidecar.features == 6
    said = [record.getMessage() for record in caplog.records if "through ffmpeg" in record.getMessage()]
    assert sorted(line.split(":")[0] for line in said) == ["program.mpg"] * 2 + ["sizes.ts"] * 2
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_files(run: Path, videos: Path, tmp_path: Path) -> None:
    many = tmp_path / "videos"
    many.mkdir()
    for number in range(12):
        (many / f"{number}.mp4").write_bytes((videos / f"v_{number % 3}.mp4").read_bytes())
    # Always as a process of its own: this one may compute on another number of threads, and so round otherwise.
    command = [str(SCRIPT), "--checkpoint", str(run), "--videos", str(many), "--stride", "2",
               "--device", "cpu", "--out"]  # fmt: skip
    assert run_python([*command, tmp_path / "straight"]).returncode == 0
    process = fork_server().start([*command, str(tmp_path / "broken")], env=os.environ)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "broken").glob("v_*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = len(list((tmp_path / "broken").glob("v_*.json")))
    assert before < 12
    assert run_python([*command, tmp_path / "broken"]).returncode == 0
    assert contents(tmp_path / "broken") == contents(tmp_path / "straight")


@pytest.mark.slow
def test_two_ranks_under_the_launcher_share_the_work_and_the_status(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in videos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "noise.mp4").write_bytes(os.urandom(5000))
    deepspeed = str(Path(sys.executable).with_name("deepspeed"))
    command = [deepspeed, "--num_accelerators", "2", str(SCRIPT), "--checkpoint", str(run), "--videos", str(folder),
               "--out", str(tmp_path / "two"), "--device", "cpu"]  # fmt: skip
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CC": "/nonexistent"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 3, done.stdout + done.stderr
    assert extract(run, folder, tmp_path / "one") == 3
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert one["errors.jsonl"] == two["errors.jsonl"]
    for name in one:
        if name.endswith(".npy"):
            first, second = np.load(tmp_path / "one" / name), np.load(tmp_path / "two" / name)
            # The thread count may change the order of float additions.
            np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_one_hour_of_video_stays_under_one_gigabyte(run: Path, tmp_path: Path) -> None:
    short = make_video(tmp_path / "minute.mp4", seconds=60.0, fps=10, size="320x180")
    hour = tmp_path / "videos" / "hour.mp4"
    hour.parent.mkdir()
    ffmpeg("-stream_loop", "59", "-i", str(short), "-c", "copy", str(hour))
    code = (
        "import re; from pathlib import Path; from pal_ds.cli.extract import main; "
        f"status = main(['--checkpoint', {str(run)!r}, '--videos', {str(hour)!r}, '--out', "
        f"{str(tmp_path / 'out')!r}, '--stride', '32', '--device', 'cpu']); "
        # getrusage would tell the parent's memory at the fork where that was more.
        "print(status, re.search(r'VmHWM:\\s+([0-9]+)', Path('/proc/self/status').read_text())[1])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=SCRIPT.parents[1],
        env=environment,
    )
    status, peak_kib = map(int, done.stdout.split()[-2:])
    assert status == 0, done.stderr
    assert len(np.load(tmp_path / "out" / "v_hour.npy")) == (36000 - 8) // 32 + 1
    assert peak_kib < 1_000_000
