"""What the catalog makes of folders and tables, and how clips are dealt to shards; nothing is encoded here."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.builder.shard_plan import Plan, PlanOptions
from shards.catalog.gather import Catalog, CatalogOptions
from shards.catalog.rows import AUTO, CUT, WHOLE
from shards.encoding.profiles import PROFILES
from shards.errors import UsageError

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "annotations" / "kinetics-400_val.csv"


def plan_of(scratch: Path, sources: list[Path], **options) -> Plan:
    names = ("video_root", "labels", "keep_recordings", "keep_labels")
    mine = {name: options.pop(name) for name in names if name in options}
    catalog = catalog_of(scratch, sources, seed=options.get("seed", 0), **mine)
    return Plan(catalog, PlanOptions(**options), PROFILES["fast"])


def catalog_of(
    scratch: Path,
    sources: list[Path],
    *,
    video_root: Path | None = None,
    labels: bool = False,
    keep_recordings: bool = False,
    keep_labels: bool = False,
    seed: int = 0,
) -> Catalog:
    scratch.mkdir(parents=True, exist_ok=True)
    database = scratch / "catalog.sqlite"
    database.unlink(missing_ok=True)
    catalog = Catalog(
        database,
        CatalogOptions(
            sources=[str(source) for source in sources],
            video_root=str(video_root) if video_root else None,
            with_labels=labels,
            seed=seed,
            keep_recordings=keep_recordings,
            keep_labels=keep_labels,
        ),
    )
    catalog.gather()
    return catalog


def rows_of(plan: Plan) -> list:
    return [row for shard in plan.shards for row in plan.rows(shard)]


def touch(path: Path, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_kinetics_names_are_found_in_class_folders_flat_and_by_id(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    touch(root / "abseiling" / "aaaaaaaaaaa_000001_000011.mp4")
    touch(root / "bbbbbbbbbbb_000002_000012.mkv")
    touch(root / "using_segway" / "-cccccccccc.webm")
    touch(root / "other" / "ddddddddddd.mp4")
    touch(root / "using segway" / "ddddddddddd.mp4")
    table = tmp_path / "k.csv"
    table.write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "abseiling,aaaaaaaaaaa,1,11,val,0\n"
        "abseiling,bbbbbbbbbbb,2,12,val,0\n"
        "using segway,-cccccccccc,3,13,val,0\n"
        "using segway,ddddddddddd,4,14,val,0\n"
        "using segway,eeeeeeeeeee,5,15,val,0\n"
        "using segway,eeeeeeeeeee,5,15,val,0\n"
        "using segway,fffffffffff,9,3,val,0\n"
    )
    plan = plan_of(tmp_path / "s", [table], video_root=root, labels=True)
    found = {row.source: (row.location, row.span, row.label) for row in rows_of(plan)}
    assert found == {
        "aaaaaaaaaaa_000001_000011": ("abseiling/aaaaaaaaaaa_000001_000011.mp4", WHOLE, "abseiling"),
        "bbbbbbbbbbb_000002_000012": ("bbbbbbbbbbb_000002_000012.mkv", WHOLE, "abseiling"),
        "-cccccccccc_000003_000013": ("using_segway/-cccccccccc.webm", AUTO, "using segway"),
        "ddddddddddd_000004_000014": ("using segway/ddddddddddd.mp4", AUTO, "using segway"),
    }
    stages = sorted((reject.stage, reject.source) for reject in plan.catalog.rejects())
    assert stages == [
        ("catalog", "k.csv:8"),
        ("missing", "eeeeeeeeeee_000005_000015"),
        ("missing", "eeeeeeeeeee_000005_000015"),
    ]
    assert plan.inputs == 7


def test_kinetics_700_without_labels_and_other_column_orders(tmp_path: Path) -> None:
    touch(tmp_path / "aaaaaaaaaaa_000001_000011.mp4")
    table = tmp_path / "test.csv"
    table.write_text("split,time_end,youtube_id,time_start\r\ntest,11,aaaaaaaaaaa,1\r\n")
    assert [row.split for row in rows_of(plan_of(tmp_path / "s", [table]))] == ["test"]


def test_plain_tables_take_paths_spans_and_strange_rows(tmp_path: Path) -> None:
    touch(tmp_path / "a b.mp4")
    touch(tmp_path / "sub" / "c,d.mp4")
    table = tmp_path / "t.csv"
    table.write_text(
        "\ufeffpath,start,end,label\n"
        "a b.mp4,0,1.5,x\n"
        '"./sub/c,d.mp4",,,"two\nlines"\n'
        f"{tmp_path}/a b.mp4,2,3,x\n"
        "a b.mp4,1,nan,x\n"
        "a b.mp4,1\n"
        "../etc/passwd.mp4,,,x\n"
        "\n"
        "a b.mp4,0,1.5,x\n"
    )
    plan = plan_of(tmp_path / "s", [table])
    found = {row.source: (row.location, row.span, row.start, row.end) for row in rows_of(plan)}
    assert found == {
        "a b.mp4#t=0,1.5": ("a b.mp4", CUT, 0.0, 1.5),
        "./sub/c,d.mp4": ("sub/c,d.mp4", WHOLE, None, None),
        f"{tmp_path}/a b.mp4#t=2,3": ("a b.mp4", CUT, 2.0, 3.0),
    }
    assert sorted(reject.stage for reject in plan.catalog.rejects()) == [
        "catalog",
        "catalog",
        "duplicate",
        "missing",
    ]
    assert plan.inputs == 7


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "label,youtube_id\n"])
def test_a_table_of_no_known_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match="header"):
        plan_of(tmp_path / "s", [tmp_path / "t.csv"])


def test_the_published_list_is_accounted_for_row_by_row(tmp_path: Path) -> None:
    if not PUBLISHED.exists():
        pytest.skip("the published Kinetics-400 list is not here")
    root = tmp_path / "videos"
    for name in ("R6llTwEh07w", "SOX5yA1l24A_000299_000309", "WUzgd7C1pWA"):
        touch(root / "using segway" / f"{name}.mp4")
    plan = plan_of(tmp_path / "s", [PUBLISHED], video_root=root)
    assert plan.inputs == 19_906
    assert len(rows_of(plan)) == 3
    assert sum(reject.stage == "missing" for reject in plan.catalog.rejects()) == 19_903


def test_two_roots_with_one_name_are_duplicates_and_links_to_class_folders_are_followed(
    tmp_path: Path,
) -> None:
    touch(tmp_path / "one" / "a.mp4")
    touch(tmp_path / "two" / "a.mp4")
    touch(tmp_path / "far" / "b.mp4")
    (tmp_path / "two" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "two")
    plan = plan_of(tmp_path / "s", [tmp_path / "one", tmp_path / "two"])
    assert sorted((row.root, row.location) for row in rows_of(plan)) == [(0, "a.mp4"), (1, "linked/b.mp4")]
    assert [(reject.source, reject.stage) for reject in plan.catalog.rejects()] == [("a.mp4", "duplicate")]
    assert plan.catalog.notes.loops == 1


def test_the_order_is_a_global_shuffle_that_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for label in "abcd":
        for number in range(25):
            touch(tmp_path / "v" / label / f"{number}.mp4")
    first = [row.source for row in rows_of(plan_of(tmp_path / "s", [tmp_path / "v"]))]
    again = [row.source for row in rows_of(plan_of(tmp_path / "s", [tmp_path / "v"]))]
    other = [row.source for row in rows_of(plan_of(tmp_path / "s", [tmp_path / "v"], seed=1))]
    assert first == again != other
    assert sorted(first) == sorted(other)
    assert {source[0] for source in first[:12]} == set("abcd")


def test_clips_of_one_label_can_be_kept_side_by_side_four_at_a_time(tmp_path: Path) -> None:
    for label in "abcde":
        for number in range(10):
            touch(tmp_path / "v" / label / f"{number}.mp4")

    def labels(**options) -> list[str]:
        plan = plan_of(tmp_path / "db", [tmp_path / "v"], labels=True, **options)
        return [row.label for row in rows_of(plan)]

    kept = labels(keep_labels=True)
    runs = [(label, len(list(group))) for label, group in itertools.groupby(kept)]
    # Ten clips are two fours and a pair; fours of one label may follow one another.
    assert all(length % 2 == 0 for _, length in runs)
    assert len(runs) > 8
    # Wherever a set is cut, four neighbours hold two of a label.
    for first in range(len(kept) - 3):
        assert max(kept[first : first + 4].count(label) for label in "abcde") >= 2
    assert kept != labels(keep_labels=True, seed=1)
    assert sorted(labels()) == sorted(kept)
    assert labels() != kept


def test_fours_of_a_label_are_formed_of_what_stays(tmp_path: Path) -> None:
    """Inputs that are duplicates, held out or beyond the limit leave no gap in a four."""
    for label in "abc":
        for number in range(24):
            touch(tmp_path / "v" / label / f"{number}.mp4")

    def fours(*, rejected: bool, **options) -> None:
        catalog = catalog_of(tmp_path / "db", [tmp_path / "v"], labels=True, keep_labels=True)
        if rejected:
            third = "UPDATE inputs SET stage = 'duplicate', error = '' WHERE id % 3 = 0"
            catalog.database.execute(third)
        plan = Plan(catalog, PlanOptions(**options), PROFILES["fast"])
        for split in {shard.split for shard in plan.shards}:
            labels = [row.label for shard in plan.shards if shard.split == split for row in plan.rows(shard)]
            counts = {label: labels.count(label) for label in labels}
            runs = [(label, len(list(group))) for label, group in itertools.groupby(labels)]
            rest = sum(count % 4 > 0 for count in counts.values())
            assert sum(length % 4 > 0 for _, length in runs) <= 2 * rest

    fours(rejected=True)
    fours(rejected=True, limit=31)
    fours(rejected=False, val_fraction=0.3)


def test_clips_of_one_recording_can_be_kept_side_by_side_while_recordings_are_shuffled(
    tmp_path: Path,
) -> None:
    for name in "abcdefghij":
        touch(tmp_path / "v" / f"{name}.mp4")
    table = tmp_path / "cuts.csv"
    cuts = [f"{name}.mp4,{start},{start + 2}" for start in (0, 2, 4) for name in "abcdefghij"]
    table.write_text("\n".join(["path,start,end", *cuts]) + "\n")

    def names(**options) -> list[str]:
        plan = plan_of(tmp_path / "db", [table], video_root=tmp_path / "v", **options)
        return [row.group for row in rows_of(plan)]

    kept = names(keep_recordings=True)
    assert [len(set(kept[first : first + 3])) for first in range(0, 30, 3)] == [1] * 10
    assert kept[::3] != sorted(kept[::3])
    assert kept != names(keep_recordings=True, seed=1)
    scattered = names()
    assert sorted(scattered) == sorted(kept)
    assert sum(len(set(scattered[first : first + 3])) for first in range(0, 30, 3)) > 20


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 200_000), min_size=1, max_size=40),
    shard_bytes=st.integers(1000, 200_000),
    fraction=st.none() | st.floats(0.05, 0.95),
)
def test_every_clip_is_in_one_shard_and_shards_keep_to_their_size(
    tmp_path_factory, sizes, shard_bytes, fraction
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    for number, size in enumerate(sizes):
        with (folder / f"v{number}.mp4").open("wb") as file:
            file.truncate(size)
    plan = plan_of(folder / "s", [folder], shard_bytes=shard_bytes, val_fraction=fraction)
    rows = rows_of(plan)
    assert sorted(row.location for row in rows) == sorted(f"v{number}.mp4" for number in range(len(sizes)))
    for shard in plan.shards:
        largest = max(PROFILES["fast"].expected_bytes(row.size, None) + 2048 for row in plan.rows(shard))
        assert shard.expected_bytes <= shard_bytes + largest
    for split in {shard.split for shard in plan.shards}:
        numbers = [shard.number for shard in plan.shards if shard.split == split]
        assert numbers == list(range(len(numbers)))
    if fraction is not None and len(sizes) > 1:
        assert any(shard.split == "val" for shard in plan.shards)


def test_a_split_column_is_followed_and_must_be_complete(tmp_path: Path) -> None:
    for name in "abc":
        touch(tmp_path / f"{name}.mp4")
    table = tmp_path / "t.csv"
    table.write_text("path,split\na.mp4,train\nb.mp4,test\nc.mp4,train\n")
    plan = plan_of(tmp_path / "s", [table], split_column=True)
    assert {shard.split: shard.clips for shard in plan.shards} == {"train": 2, "test": 1}
    table.write_text("path,split\na.mp4,train\nb.mp4,\n")
    with pytest.raises(UsageError, match="name no split"):
        plan_of(tmp_path / "s", [table], split_column=True)
