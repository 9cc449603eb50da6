"""Annotations of the benchmarks, as small files of the form in which they are distributed."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pal_ds.config.base import ConfigError
from pal_ds.config.datasets import DATASETS
from pal_ds.transfer.datasets.annotations import AnnotationError, Segment
from pal_ds.transfer.datasets.detection import read_named
from pal_ds.transfer.metrics.tiou import parse_thresholds

EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,"
    "stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
EPIC_ROWS = (
    "P01_11_0,P01,P01_11,00:00:00.560,00:00:00.00,00:00:01.89,1,113,take plate,take,0,plate,2,['plate'],[2]",
    "P01_11_1,P01,P01_11,00:00:01.700,00:00:01.56,00:00:02.45,93,147,put down plate,put-down,1,plate,2,['plate'],[2]",
    'P02_09_7,P02,P02_09,01:00:48.500,01:02:49.15,01:02:50.95,2949,3057,"take cup, paper",take,0,cup,13,'
    "\"['cup', 'paper']\",\"[13, 49]\"",
)


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def part(label: str, start: float, end: float) -> dict[str, Any]:
    return {"label": label, "segment": [start, end]}


@pytest.fixture
def hacs(tmp_path: Path) -> str:
    url = "https://www.youtube.com/watch?v="
    database = {
        "--0edUL8zmA": {
            "annotations": [part("Dodgeball", 5.4, 11.6), part("Dodgeball", 12.6, 88.16)],
            "subset": "training",
            "duration": "92.166667",
            "url": f"{url}--0edUL8zmA",
        },
        "a2X2hz1G6i8": {
            "annotations": [part("Archery", 1, 2.5)],
            "subset": "validation",
            "duration": "30.0",
            "url": url,
        },
        "test00000_0": {"annotations": [], "subset": "testing", "duration": "31.5", "url": url},
    }
    return write(tmp_path / "HACS_segments_v1.1.1.json", {"database": database})


@pytest.fixture
def fineaction(tmp_path: Path) -> str:
    database = {
        f"v_0000000{number}": {
            "filename": f"v_0000000{number}.mp4",
            "subset": subset,
            "duration": 20.5,
            "annotations": [part(name, 0.5 * k, 0.5 * k + 0.4) for k, name in enumerate(names)],
        }
        for number, (subset, names) in enumerate(
            [("training", ["clap", "hug", "clap"]), ("validation", ["hug"]), ("testing", [])]
        )
    }
    return write(tmp_path / "annotations_gt.json", {"version": "1.0", "database": database})


@pytest.fixture
def multithumos(tmp_path: Path) -> str:
    folder = tmp_path / "multithumos"
    write(folder / "class_list.txt", "1 Run\n2 Jump\n")
    write(folder / "README", "…")
    write(
        folder / "annotations" / "Run.txt",
        "video_validation_0000266 72.80 76.40\nvideo_test_0000006 1.50 5.40\n\nvideo_validation_0000266 2.0 3.5\n",
    )
    write(
        folder / "annotations" / "Jump.txt",
        "video_validation_0000266 72.8 76.4\nvideo_validation_0000681 44.00 50.90",
    )
    return str(folder)


@pytest.fixture
def epic(tmp_path: Path) -> str:
    write(
        tmp_path / "EPIC_100_video_info.csv",
        "video_id,duration,fps,resolution\nP01_11,561.5,59.94,1920x1080\nP09_09,1,50,1920x1080\n",
    )
    return write(tmp_path / "EPIC_100_validation.csv", "\n".join((EPIC_HEADER, *EPIC_ROWS)) + "\n")


def moment(
    label: str, start: float, end: float, *, primary: bool = True, offset: float = 100.0
) -> dict[str, Any]:
    return {
        "start_time": start,
        "end_time": end,
        "video_start_time": start + offset,
        "video_end_time": end + offset,
        "video_start_frame": 0,
        "video_end_frame": 1,
        "label": label,
        "primary": primary,
    }


def clip(name: str, *annotators: list[dict[str, Any]], start: float = 100.0) -> dict[str, Any]:
    found = [{"annotator_uid": str(n), "labels": labels} for n, labels in enumerate(annotators)]
    bounds = {"video_start_sec": start, "video_end_sec": start + 480.0}
    return {"clip_uid": name, "source_clip_uid": name, **bounds, "annotations": found}


@pytest.fixture
def ego4d(tmp_path: Path) -> str:
    clips = [
        clip(
            "one",
            [moment("use_phone", 1, 4)],
            [moment("use_phone", 1.5, 4), moment("x", 2, 3, primary=False)],
        ),
        clip("two", [moment("x", 2, 3, primary=False)], []),
        clip("three", [moment("wash_hands", 470, 480.03)], start=0.0),
    ]
    videos = [{"video_uid": "v", "split": "val", "clips": clips}]
    return write(tmp_path / "moments_val.json", {"version": "v1", "date": "220216", "videos": videos})


#: Of each form: videos and segments by subset, and the classes.
COUNTS = [
    ("hacs", "hacs", {"training": (1, 2), "validation": (1, 1), "testing": (1, 0)}, 2),
    ("fineaction", "fineaction", {"training": (1, 3), "validation": (1, 1), "testing": (1, 0)}, 2),
    ("multithumos", "multithumos", {"validation": (2, 4), "test": (1, 1)}, 2),
    ("epic_kitchens_verb", "epic", {"validation": (2, 3)}, 2),
    ("epic_kitchens_noun", "epic", {"validation": (2, 3)}, 2),
    ("epic_kitchens_action", "epic", {"validation": (2, 3)}, 3),
    ("ego4d_mq", "ego4d", {"val": (2, 3)}, 2),
]


@pytest.mark.parametrize(("dataset", "file", "counts", "classes"), COUNTS, ids=[row[0] for row in COUNTS])
def test_counts(
    dataset: str, file: str, counts: dict[str, tuple[int, int]], classes: int, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(file)
    everything = read_named(dataset, url, "all")
    assert Counter(video.subset for video in everything) == {name: n for name, (n, _) in counts.items()}
    assert len({segment.label for video in everything for segment in video.segments}) == classes
    for subset, (videos, segments) in counts.items():
        found = read_named(dataset, url, subset)
        assert (len(found), sum(len(video.segments) for video in found)) == (videos, segments)
    with pytest.raises(AnnotationError, match=f"no video in subset 'nothing'; it has .*{next(iter(counts))}"):
        read_named(dataset, url, "nothing")


def test_hacs_durations_are_read_from_text(hacs: str) -> None:
    assert [video.duration for video in read_named("hacs", hacs, None)] == [92.166667, 30.0, 31.5]


def test_fineaction_ids_are_those_of_feature_files(fineaction: str, tmp_path: Path) -> None:
    (video,) = read_named("fineaction", fineaction, "validation")
    assert video.video == "00000001"
    twice = {"database": {"v_1": {"subset": "training"}, "1": {"subset": "training"}}}
    with pytest.raises(AnnotationError, match="video '1': is listed twice"):
        read_named("fineaction", write(tmp_path / "twice.json", twice), "all")


def test_multithumos_is_read_from_either_folder_and_in_order(multithumos: str) -> None:
    first = read_named("multithumos", multithumos, "validation")
    assert first == read_named("multithumos", f"{multithumos}/annotations", "validation")
    assert [video.video for video in first] == ["video_validation_0000266", "video_validation_0000681"]
    assert [(s.start, s.label) for s in first[0].segments] == [(2.0, "Run"), (72.8, "Jump"), (72.8, "Run")]
    assert math.isnan(first[0].duration)


def test_multithumos_in_the_other_form(tmp_path: Path) -> None:
    database = {"video_test_1": {"subset": "validation", "duration": 9, "annotations": [part("Run", 1, 2)]}}
    url = write(tmp_path / "multithumos_anno.json", {"database": database})
    (video,) = read_named("multithumos", url, "validation")
    assert video.segments == (Segment(start=1.0, end=2.0, label="Run"),)


def test_multithumos_from_object_storage(multithumos: str, s3_env: Any) -> None:
    from pal_ds import storage

    url = storage.join(s3_env.bucket("multithumos-test"), "multithumos")
    for path in Path(multithumos).rglob("*.txt"):
        storage.write_bytes(storage.join(url, str(path.relative_to(multithumos))), path.read_bytes())
    assert read_named("multithumos", url, "all") == read_named("multithumos", multithumos, "all")


def test_epic_classes_are_numbers_and_times_seconds(epic: str) -> None:
    labels = {
        kind: [
            segment.label
            for video in read_named(f"epic_kitchens_{kind}", epic, "validation")
            for segment in video.segments
        ]
        for kind in ("verb", "noun", "action")
    }
    assert labels == {"verb": ["0", "1", "0"], "noun": ["2", "2", "13"], "action": ["0,2", "1,2", "0,13"]}
    first, second = read_named("epic_kitchens_verb", epic, "validation")
    assert (first.duration, first.fps) == (561.5, 59.94)
    assert math.isnan(second.duration)
    assert (second.segments[0].start, second.segments[0].end) == (3769.15, 3770.95)


def test_ego4d_moments_are_of_clips_and_primary(ego4d: str, tmp_path: Path) -> None:
    one, three = read_named("ego4d_mq", ego4d, "val")
    assert [(s.start, s.end) for s in one.segments] == [(1.0, 4.0), (1.5, 4.0)]
    assert (three.video, three.duration) == ("three", 480.0)
    converted = {
        video.video: {
            "video_id": "v",
            "clip_id": video.video,
            "parent_start_sec": 0.0,
            "parent_end_sec": 480.0,
            "subset": "val",
            "annotations": [
                {"start_time": s.start, "end_time": s.end, "label": s.label} for s in video.segments
            ],
        }
        for video in (one, three)
    }
    assert read_named("ego4d_mq", write(tmp_path / "clip_annotations.json", converted), "val") == (one, three)


MISTAKES = [
    ("multithumos", "annotations/Run.txt", "video_test_1 1.0", "Run.txt: line 1: isn't 'VIDEO START END'"),
    ("multithumos", "annotations/Run.txt", "video_test_1 9 3", "ends before it starts"),
    ("multithumos", "notes.md", "", "holds no annotations/<Class>.txt"),
    ("epic_kitchens_verb", "train.csv", "video_id\nP01", "has no column 'start_timestamp'"),
    ("epic_kitchens_verb", "train.csv", f"{EPIC_HEADER}\na,b\n", "line 2: has too few columns"),
    (
        "epic_kitchens_verb",
        "train.csv",
        f"{EPIC_HEADER}\n{EPIC_ROWS[0]}".replace(",0,", ",x,"),
        "verb_class = 'x'",
    ),
    (
        "epic_kitchens_noun",
        "train.csv",
        f"{EPIC_HEADER}\n{EPIC_ROWS[0]}".replace("00:00:01.89", "1.89"),
        "HH:MM:SS",
    ),
    ("epic_kitchens_noun", "EPIC_100_test_timestamps.csv", "narration_id,video_id\n", "without classes"),
    ("ego4d_mq", "m.json", "[]", "isn't an object"),
    ("ego4d_mq", "m.json", '{"videos": 3}', "videos: isn't a list"),
    ("ego4d_mq", "m.json", '{"videos": [{"clips": [{}]}]}', "video 0: holds a clip without 'clip_uid'"),
    (
        "ego4d_mq",
        "m.json",
        '{"videos": [{"clips": [{"clip_uid": "c", "annotations": [{}]}]}]}',
        "'c', labels: isn't",
    ),
    (
        "ego4d_mq",
        "m.json",
        '{"c": {"annotations": [{"label": "a", "start_time": 2, "end_time": 1}]}}',
        "'c': segment",
    ),
    ("ego4d_mq", "m.json", '{"c": {"annotations": [{"start_time": 2}]}}', "holds a moment without 'label'"),
    ("hacs", "h.json", "{}", "no object 'database'"),
]


@pytest.mark.parametrize(("dataset", "name", "content", "message"), MISTAKES)
def test_what_is_malformed_is_told_in_one_line(
    dataset: str, name: str, content: str, message: str, tmp_path: Path
) -> None:
    url = write(tmp_path / name, content)
    with pytest.raises(AnnotationError) as error:
        read_named(dataset, str(tmp_path) if dataset == "multithumos" else url, "all")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"hakcs.*use one of activitynet, thumos14, hacs, .*ego4d_mq"):
        read_named("hakcs", "x", "all")


def test_every_entry_can_be_loaded_and_has_thresholds() -> None:
    for choice in DATASETS.values():
        assert callable(choice.load())
        assert len(parse_thresholds(choice.tiou)) in (5, 9, 10)
