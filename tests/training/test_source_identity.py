"""What a resume may not change of a run's shard sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pal_ds.config import load_config
from pal_ds.config.sources import ShardSource, Where
from pal_ds.data.sources import OpenSource
from pal_ds.formats.clip_selection import Selection
from pal_ds.formats.shardset import Manifest
from pal_ds.training.run_identity import IdentityError, check_identity, identity_of
from pal_ds.training.source_identity import identity_of_sources
from tests.support.epoch_plans import split_of

CONFIG = load_config("configs/demo.yaml", ["data.shards=/s", "run.dir=/r"])
MANIFESTS = [Manifest(recipe={"number": number}, splits={}) for number in range(3)]
SPLIT = split_of([8])
TWO = (ShardSource(url="/a", weight=1.0), ShardSource(url="/b", weight=2.0, where=Where(min_seconds=4)))


def identity(
    *sources: ShardSource, manifests: list[Manifest] = MANIFESTS, selection: Selection | None = None
) -> dict:
    opened = [
        OpenSource(number, source, manifests[number], source.split, SPLIT, selection)
        for number, source in enumerate(sources)
    ]
    return identity_of(CONFIG, manifests[0].digest, identity_of_sources(opened))


def test_a_url_and_a_list_of_one_are_the_same_run() -> None:
    plain = identity_of(CONFIG, MANIFESTS[0].digest)
    for alone in (ShardSource(url="/a"), ShardSource(url="/a", weight=3.0), ShardSource(url="s3://moved")):
        assert identity(alone) == plain
    check_identity(identity(*TWO), identity(*TWO))
    check_identity(identity(*TWO), identity(ShardSource(url="/elsewhere", weight=1.0), TWO[1]))


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ((TWO[0],), r"data.shards has 1 sets: this run began with 2"),
        ((*TWO, ShardSource(url="/c", weight=1.0)), r"data.shards has 3 sets: this run began with 2"),
        ((TWO[0], ShardSource(url="/b", weight=2.5, where=TWO[1].where)), r"\[1\].weight = 2.5: .* with 2.0"),
        ((TWO[0], ShardSource(url="/b", weight=2.0)), r"\[1\].where.min_seconds = None: .* with 4.0"),
        (
            (TWO[0], ShardSource(url="/b", weight=2.0, where=Where(min_seconds=4, labels=("run",)))),
            r"\[1\].where.labels = \['run'\]: this run began with None",
        ),
        ((ShardSource(url="/a", weight=1.0, split="extra"), TWO[1]), r"\[0\].split = 'extra'"),
        ((ShardSource(url="/a", weight=1.0, val_split=""), TWO[1]), r"\[0\].val_split = ''"),
    ],
)
def test_what_changed_is_named(sources: tuple[ShardSource, ...], said: str) -> None:
    with pytest.raises(IdentityError, match=said):
        check_identity(identity(*TWO), identity(*sources))


def test_another_set_is_named_by_its_place() -> None:
    with pytest.raises(IdentityError, match=r"data.shards\[1\]: the shard set's manifest"):
        check_identity(identity(*TWO), identity(*TWO, manifests=[MANIFESTS[0], MANIFESTS[2]]))
    with pytest.raises(IdentityError, match=r"data.shards\[0\]: the shard set's manifest"):
        check_identity(identity(*TWO), identity(*TWO, manifests=[MANIFESTS[1], MANIFESTS[0]]))


def test_a_plain_run_is_no_mixed_one() -> None:
    plain = identity_of(CONFIG, MANIFESTS[0].digest)
    with pytest.raises(IdentityError, match=r"data.shards has 2 sets: this run began with 1"):
        check_identity(plain, identity(*TWO))
    with pytest.raises(IdentityError, match=r"\[0\].where.min_fps = 9.0: this run began with None"):
        check_identity(plain, identity(ShardSource(url="/a", where=Where(min_fps=9))))


def test_conditions_that_choose_other_clips_than_before_are_told() -> None:
    source = ShardSource(url="/a", where=Where(min_seconds=4))
    one, two = (
        Selection(shard_clips=(8,), counts=(2,), shard_bytes=(9,), frames=9, seconds=1.0, bits=bits)
        for bits in (b"\xc0", b"\x03")
    )
    check_identity(identity(source, selection=one), identity(source, selection=one))
    with pytest.raises(IdentityError, match=r"data.shards\[0\].where chooses other clips"):
        check_identity(identity(source, selection=one), identity(source, selection=two))


def test_a_file_of_keys_may_move_but_not_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x\n")
    (tmp_path / "b").write_text("x\n")
    (tmp_path / "c").write_text("y\n")
    a, b, c = (identity(ShardSource(url="/a", where=Where(keys=str(tmp_path / name)))) for name in "abc")
    check_identity(a, b)
    with pytest.raises(IdentityError, match=r"where.keys = 'sha256:"):
        check_identity(a, c)


def test_how_sets_meet_and_how_long_an_epoch_is_are_kept() -> None:
    for change, field in (("data.epoch_clips=512", "data.epoch_clips"), ("data.mix=by_group", "data.mix")):
        words = ["data.shards=[{url: /a, weight: 1}, {url: /b, weight: 2}]", "run.dir=/r"]
        before, now = (load_config("configs/demo.yaml", [*words, *more]) for more in ([], [change]))
        with pytest.raises(IdentityError, match=field):
            check_identity(identity_of(before, "m"), identity_of(now, "m"))
