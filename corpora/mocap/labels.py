"""Writes what is known of the videos in the published forms of four benchmarks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from corpora.mocap.corpus_plan import Video
from corpora.mocap.motion.actions import ACTIONS
from corpora.mocap.queries import sentences
from corpora.mocap.video import Labels

Made = list[tuple[Video, Labels]]

_SUBSETS = {"train": ("training", "Validation"), "val": ("validation", "Test")}
"""split -> subset name in ActivityNet, and in THUMOS'14 (where "Validation" is what people train on)."""


def write_all(made: Made, root: Path, seed: int) -> None:
    """Write every annotation file under ``root``; equal inputs give equal bytes."""
    trimmed = [(video, labels) for video, labels in made if video.kind == "trimmed"]
    untrimmed = [(video, labels) for video, labels in made if video.kind == "untrimmed"]
    names = [action.label for action in ACTIONS]
    _write(root / "classes.txt", "".join(f"{name}\n" for name in names))
    for split in ("train", "val"):
        part = [one for one in trimmed if one[0].split == split]
        _write(root / f"trimmed/{split}.csv", _kinetics(part))
        _write(root / f"tac/{split}.csv", _tac(part, names))
    _write(root / "trimmed/all.csv", _kinetics(trimmed))
    _write_json(root / "untrimmed/activitynet.json", _activitynet(untrimmed, names))
    _write_json(root / "untrimmed/thumos14.json", _thumos(untrimmed, names))
    for path, text in _thumos_text(untrimmed, names).items():
        _write(root / "untrimmed/thumos" / path, text)
    for split, name in (("train", "train"), ("val", "test")):
        part = [one for one in untrimmed if one[0].split == split]
        _write(root / f"queries/charades_sta_{name}.txt", _charades_sta(part, seed))
        _write(root / f"queries/Charades_v1_{name}.csv", _charades_lengths(part))


def _kinetics(part: Made) -> str:
    rows = [(v.labels[0], v.id, v.offset, v.offset + 10, v.split) for v, _ in part]
    return _table(("label", "youtube_id", "time_start", "time_end", "split"), rows)


def _tac(part: Made, names: list[str]) -> str:
    """Temporal action classification: every class equally often; paths are relative to the corpus."""
    rows = [(v.path, v.labels[0], names.index(v.labels[0])) for v, _ in part]
    return _table(("path", "label", "label_id"), rows)


def _seconds(value: float) -> float:
    return round(value, 3)


def _activitynet(part: Made, names: list[str]) -> dict[str, object]:
    database = {}
    for video, labels in part:
        database[video.id] = {
            "duration": _seconds(labels.frames / video.fps),
            "subset": _SUBSETS[video.split][0],
            "resolution": f"{video.width}x{video.height}",
            "url": f"videos/v_{video.id}.mp4",
            "annotations": [
                {"segment": [_seconds(one.start), _seconds(one.end)], "label": one.label}
                for one in labels.instances
            ],
        }
    taxonomy: list[dict[str, object]] = [
        {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}
    ]
    taxonomy += [
        {"nodeId": number, "nodeName": name, "parentId": 0, "parentName": "Root"}
        for number, name in enumerate(names, 1)
    ]
    return {"version": "pal-mocap/2", "taxonomy": taxonomy, "database": database}


def _thumos(part: Made, names: list[str]) -> dict[str, object]:
    """The JSON that ActionFormer's and G-TAD's readers take for THUMOS'14."""
    database = {}
    for video, labels in part:
        database[video.id] = {
            "subset": _SUBSETS[video.split][1],
            "duration": _seconds(labels.frames / video.fps),
            "fps": float(video.fps),
            "annotations": [
                {
                    "label": one.label,
                    "segment": [_seconds(one.start), _seconds(one.end)],
                    "segment(frames)": [_seconds(one.start * video.fps), _seconds(one.end * video.fps)],
                    "label_id": names.index(one.label),
                }
                for one in labels.instances
            ],
        }
    return {"version": "pal-mocap/2", "database": database}


def _thumos_text(part: Made, names: list[str]) -> dict[str, str]:
    """THUMOS'14's own files: a class list, and per class and subset lines of ``video  start end``."""
    camel = {name: "".join(word.capitalize() for word in name.split()) for name in names}
    files = {"detclasslist.txt": "".join(f"{number} {camel[name]}\n" for number, name in enumerate(names, 1))}
    for split, suffix in (("train", "val"), ("val", "test")):
        for name in names:
            lines = [
                f"v_{video.id}  {one.start:.1f} {one.end:.1f}\n"
                for video, labels in part
                for one in labels.instances
                if video.split == split and one.label == name
            ]
            files[f"annotations_{suffix}/{camel[name]}_{suffix}.txt"] = "".join(lines)
    return files


def _charades_sta(part: Made, seed: int) -> str:
    lines: list[str] = []
    for video, labels in part:
        queries = sentences(video.id, labels.instances, seed)
        lines += [f"{video.id} {one.start:.1f} {one.end:.1f}##{one.sentence}\n" for one in queries]
    return "".join(lines)


def _charades_lengths(part: Made) -> str:
    """Charades' own table; readers of Charades-STA take the videos' lengths from it."""
    columns = (
        "id",
        "subject",
        "scene",
        "quality",
        "relevance",
        "verified",
        "script",
        "objects",
        "descriptions",
        "actions",
    )
    rows = [(v.id, *[""] * (len(columns) - 1), f"{labels.frames / v.fps:.2f}") for v, labels in part]
    return _table((*columns, "length"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _write_json(path: Path, value: object) -> None:
    _write(path, json.dumps(value, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
