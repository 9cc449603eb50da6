from pathlib import Path

import pytest

from pal_ds.transfer.datasets.annotations import Segment, VideoAnnotation
from pal_ds.transfer.datasets.detection import read_database, read_detection, read_tsp_csv, without_repeats
from pal_ds.transfer.datasets.grounding import read_charades_durations, read_charades_sta
from pal_ds.transfer.metrics.prediction_files import from_annotations

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "data" / "annotations"


def published(name):
    path = PUBLISHED / name
    if not path.exists():
        pytest.skip(f"annotation file {name} isn't at hand ({PUBLISHED})")
    return str(path)


@pytest.mark.parametrize(("part", "videos", "segments"), [("train", 10024, 15410), ("valid", 4926, 7654)])
def test_activitynet_counts(part, videos, segments):
    read = read_tsp_csv(
        published(f"tsp_anet_{part}_gt.csv"), metadata_url=published(f"tsp_anet_{part}_metadata.csv")
    )
    annotated = [video for video in read if video.segments]
    assert len(annotated) == videos
    assert sum(len(video.segments) for video in annotated) == segments
    assert len(from_annotations(read).labels) == 200
    assert all(video.duration > 0 and video.fps > 0 for video in read)


def test_thumos_counts():
    read = read_database(published("thumos14.json"))
    by_subset = {
        name: [video for video in read if video.subset == name] for name in {video.subset for video in read}
    }
    assert {name: len(videos) for name, videos in by_subset.items()} == {"Validation": 200, "Test": 212}
    assert sum(len(video.segments) for video in by_subset["Validation"]) == 3007
    assert sum(len(video.segments) for video in by_subset["Test"]) == 3358
    assert len(from_annotations(read_detection(published("thumos14.json"), "Test")).labels) == 20


@pytest.mark.parametrize(("part", "queries", "videos"), [("train", 12408, 5338), ("test", 3720, 1334)])
def test_charades_sta_counts(part, queries, videos):
    read = read_charades_sta(published(f"charades_sta_{part}.txt"))
    assert len(read) == queries
    assert len({query.video for query in read}) == videos


def test_charades_durations_cover_the_test_queries():
    durations = read_charades_durations(published("Charades_v1_test.csv"))
    queries = read_charades_sta(published("charades_sta_test.txt"))
    assert {query.video for query in queries} <= set(durations)
    assert durations["YSKX3"] == 16.62


def test_both_forms_of_charades_sta_read_alike(tmp_path):
    (tmp_path / "a.txt").write_text("3MSZA 24.3 30.4##person turns ## a light on.\n")
    (tmp_path / "b.txt").write_text("3MSZA 24.3 30.4 0##person turns ## a light on.\n\n")
    first, second = read_charades_sta(str(tmp_path / "a.txt")), read_charades_sta(str(tmp_path / "b.txt"))
    assert first == second
    assert first[0].sentence == "person turns ## a light on."


def test_times_as_text_are_read(tmp_path):
    text = (
        '{"database": {"v": {"subset": "test", "annotations": [{"segment": ["1.5", "2.5"], "label": "a"}]}}}'
    )
    (tmp_path / "gt.json").write_text(text)
    (video,) = read_detection(str(tmp_path / "gt.json"), "test")
    assert video.segments == (Segment(start=1.5, end=2.5, label="a"),)


def test_repeats_and_empty_segments_are_dropped_for_training():
    spans = [(0.0, 4.0, "a"), (0.0005, 4.0005, "a"), (0.0, 4.0, "b"), (3.0, 3.0, "a")]
    segments = tuple(Segment(start=s, end=e, label=name) for s, e, name in spans)
    video = VideoAnnotation(video="v", subset="", duration=9.0, fps=30.0, segments=segments)
    assert [segment.label for segment in without_repeats(video).segments] == ["a", "b"]
