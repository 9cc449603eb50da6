"""Packs what a machine without internet needs beside torch: wheels, a small FFmpeg, real clips; at most 60 MB.

    python -m benchmarks.gpu pack --out brought --python 3.12 --torchcodec 0.11.1

The folder travels with the checkout. There, ``sh brought/unpack.sh`` installs the wheels into ``brought/site``, and
``run --brought brought`` puts them, the commands and the libraries in front. torch and what it brings are not packed:
the machine has them. Neither is TensorBoard, whose wheels are 15 MB; the runs here write none.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from corpora import footage
from shards.cli import main as pal_shard

MOST_BYTES = 60_000_000
CLIPS = 48
#: What a run needs beside torch, numpy and what these bring. DeepSpeed has no wheel: its source is pure Python here.
WHEELS = (
    *(
        "webdataset",
        "braceexpand",
        "fsspec",
        "s3fs",
        "aiobotocore",
        "botocore",
        "aioitertools",
        "jmespath",
        "wrapt",
    ),
    *(
        "python-dateutil",
        "six",
        "aiohttp",
        "aiohappyeyeballs",
        "aiosignal",
        "attrs",
        "frozenlist",
        "multidict",
    ),
    *(
        "propcache",
        "yarl",
        "idna",
        "urllib3",
        "typing_extensions",
        "pyyaml",
        "safetensors",
        "rich",
        "markdown-it-py",
    ),
    *(
        "mdurl",
        "pygments",
        "jinja2",
        "markupsafe",
        "packaging",
        "psutil",
        "hjson",
        "msgpack",
        "einops",
        "ninja",
    ),
    *(
        "pydantic",
        "pydantic-core",
        "annotated-types",
        "typing-inspection",
        "py-cpuinfo",
        "tqdm",
        "setuptools",
    ),
)
_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
_UNPACK = """#!/bin/sh
# Installs what was packed beside this file; needs nothing from anywhere.
set -e
cd "$(dirname "$0")"
export DS_BUILD_OPS=0 DS_ACCELERATOR=cpu
python3 -m pip install -q --no-index --no-deps --no-compile --target site wheels/*.whl
for source in wheels/*.tar.gz; do
    PYTHONPATH=site python3 -m pip install -q --no-index --no-deps --no-build-isolation --target site "$source"
done
PYTHONPATH=site LD_LIBRARY_PATH=lib python3 -c "import deepspeed, torchcodec, webdataset, s3fs"
"""


def pack_all(out: Path, python: str, torchcodec: str, clips: Path | None, ffmpeg: Path | None) -> int:
    """Make the folder; print what it holds. 1 where it is larger than what may travel, with the largest parts."""
    out.mkdir(parents=True, exist_ok=True)
    download(out / "wheels", python, torchcodec)
    if ffmpeg is None:
        build_ffmpeg(out)
    else:
        for place in ("bin", "lib"):
            shutil.copytree(ffmpeg / place, out / place, dirs_exist_ok=True)
    if clips is None:
        pack_clips(out / "clips")
    else:
        shutil.copytree(clips, out / "clips", dirs_exist_ok=True)
    (out / "unpack.sh").write_text(_UNPACK)
    sizes = {place.name: _bytes(place) for place in sorted(out.iterdir())}
    for name, size in sizes.items():
        print(f"{name}: {size / 1e6:.1f} MB")
    total = sum(sizes.values())
    print(f"{out}: {total / 1e6:.1f} MB")
    if total > MOST_BYTES:
        sys.stderr.write(
            f"error: {out}: {total / 1e6:.1f} MB are more than {MOST_BYTES / 1e6:.0f}; leave parts out\n"
        )
        return 1
    return 0


def download(folder: Path, python: str, torchcodec: str) -> None:
    """Fetch wheels for the machine's Python, and DeepSpeed's source, at the versions of constraints.txt."""
    constraints = [
        line
        for line in (Path(__file__).resolve().parents[2] / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith(("torch==", "torchcodec==", "numpy=="))
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints))
        file.flush()
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-c", file.name, "-d", str(folder)]
        target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        target += [word for platform in _PLATFORMS for word in ("--platform", platform)]
        codec = f"torchcodec=={torchcodec}" if torchcodec else "torchcodec"
        subprocess.run([*pip, *target, *WHEELS, codec], check=True)
        subprocess.run([*pip, "--no-binary=deepspeed", "--no-build-isolation", "deepspeed"], check=True)


def build_ffmpeg(out: Path) -> None:
    """Build FFmpeg with H.264 and nothing else from Debian's source: commands to shard, libraries for torchcodec."""
    script = Path(__file__).with_name("build_ffmpeg.sh")
    subprocess.run(["bash", str(script), str(out.resolve())], check=True)


def pack_clips(target: Path) -> None:
    """Make a shard set of real clips out of the demonstration's footage, transcoded as for training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = footage.fetch(folder / "footage", print)
        footage.write_csv(footage.clips(recordings, folder / "footage"), folder / "clips.csv")
        words = [
            "build",
            str(folder / "clips.csv"),
            str(target),
            "--video-root",
            str(folder),
            "--split-column",
        ]
        status = pal_shard([*words, "--limit", str(CLIPS), "--quiet", "--json"])
        if status not in (0, 3):
            raise RuntimeError(f"pal-shard build ended with status {status}")


def _bytes(place: Path) -> int:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if not path.is_symlink())
