"""Makes a whole corpus: videos in parallel, then labels; run again, it goes on where it stopped."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np

from corpora.mocap.corpus_plan import SIZES, Video, plan
from corpora.mocap.encode import EncodeError
from corpora.mocap.labels import write_all
from corpora.mocap.motion.actions import ACTIONS
from corpora.mocap.motion.motions import motion_folder
from corpora.mocap.video import Labels, make

FORMAT = "pal-mocap/2"
Progress = Callable[[int, int], None]


class CorpusError(ValueError):
    """The folder holds something else, or a setting can't be met: one line for the user."""


def build(
    root: Path,
    size: str,
    seed: int,
    workers: int,
    progress: Progress | None = None,
    *,
    only: str | None = None,
) -> dict[str, object]:
    """Make a corpus in a local folder.

    Args:
        root: where; made if absent. What is there of the same recipe is kept.
        size: one of :data:`corpora.mocap.corpus_plan.SIZES`.
        seed: of every draw.
        workers: processes; the result doesn't depend on it.
        progress: called with (videos done, videos in all).
        only: ``trimmed`` or ``untrimmed`` leaves the other kind out; the videos made are the same.

    Returns:
        What ``corpus.json`` says, which is written last: recipe and counts.

    Raises:
        CorpusError: unknown size, or a folder of another recipe.
        EncodeError: ffmpeg is missing or failed.
        MotionDataError: pybullet isn't installed.
    """
    if size not in SIZES:
        raise CorpusError(f"size = {size!r}: one of {', '.join(SIZES)}")
    if workers < 1:
        raise CorpusError(f"workers = {workers}: at least 1")
    motion_folder()
    recipe = _recipe(size, seed) | ({"only": only} if only else {})
    _claim(root, recipe)
    videos = [video for video in plan(SIZES[size], seed) if only in (None, video.kind)]
    labels: dict[str, Labels] = {}
    for number, (name, known) in enumerate(_made(videos, seed, root, workers), 1):
        labels[name] = known
        if progress is not None:
            progress(number, len(videos))
    made = [(video, labels[video.id]) for video in videos]
    write_all(made, root, seed)
    summary = recipe | {"counts": _counts(videos, labels)}
    _replace(root / "corpus.json", summary)
    (root / "recipe.json").unlink(missing_ok=True)
    return summary


def _counts(videos: list[Video], labels: dict[str, Labels]) -> dict[str, object]:
    kinds = [f"{video.kind}_{video.split}" for video in videos]
    return {
        "classes": len(ACTIONS),
        **{kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "frames": sum(one.frames for one in labels.values()),
        "untrimmed_instances": sum(len(labels[v.id].instances) for v in videos if v.kind == "untrimmed"),
    }


def _recipe(size: str, seed: int) -> dict[str, object]:
    """All that the bytes depend on, but the processor's family."""
    try:
        said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EncodeError("ffmpeg is not installed") from error
    return {
        "format": FORMAT,
        "size": size,
        "seed": seed,
        "pybullet": importlib.metadata.version("pybullet"),
        "numpy": np.__version__,
        "torchcodec": importlib.metadata.version("torchcodec"),
        "ffmpeg": said.split(" Copyright")[0].removeprefix("ffmpeg version "),
        # Left out where it is what corpora had before they could differ.
        **({"codec": SIZES[size].codec} if SIZES[size].codec != "h264" else {}),
    }


def _claim(root: Path, recipe: dict[str, object]) -> None:
    """Note the recipe in a new folder; refuse a folder that has another."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("corpus.json", "recipe.json"):
        if (root / name).exists():
            found = json.loads((root / name).read_text())
            wanted = {"only": None, **recipe}
            differing = [key for key, value in wanted.items() if found.get(key) != value]
            if differing:
                key = differing[0]
                raise CorpusError(
                    f"out = {root}: holds a corpus of {key} {found.get(key)!r}; choose another folder"
                )
            return
    if any(root.iterdir()):
        raise CorpusError(f"out = {root}: not empty and no corpus; choose another folder")
    _replace(root / "recipe.json", recipe)


def _replace(path: Path, value: dict[str, object]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def _one(seed: int, root: Path, video: Video) -> tuple[str, Labels]:
    return video.id, make(video, seed, root)


def _made(videos: list[Video], seed: int, root: Path, workers: int) -> Iterator[tuple[str, Labels]]:
    job = partial(_one, seed, root)
    if workers == 1:
        yield from map(job, videos)
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # glibc gives large arrays back when they are freed and faults them in again: a third of a worker's time.
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        os.environ.setdefault(name, str(32 << 20))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_follow, initargs=(os.getpid(),)
    ) as pool:
        futures = [pool.submit(job, video) for video in videos]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _follow(parent: int) -> None:
    """End this worker soon after its parent is gone, however it went."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
