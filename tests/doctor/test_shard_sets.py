"""The doctor looks at every shard set of a mix."""

from __future__ import annotations

import pytest

from pal_ds.doctor.finding import FAIL, OK, WARN
from pal_ds.doctor.shard_sets import shard_sets
from tests.support.tiny_shards import encode, sample, write_set


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder, video = tmp_path_factory.mktemp("sets"), encode(1, 40)
    made = [sample(f"{number}.mp4", video, 40, label="run") for number in range(6)]
    one = write_set(folder / "one", {"train": [made], "val": [made[:3]]}, labels=("run",))
    return one, write_set(folder / "two", {"extra": [made[:4]]}, labels=("jump", "run"))


def test_sets_are_looked_at_one_by_one_and_together(sets: tuple[str, str]) -> None:
    one = f"{{url: {sets[0]}, where: {{min_frames: 40}}}}"
    text = f"[{one}, {{url: {sets[1]}, split: extra, where: {{min_fps: 99}}}}]"
    found = [(each.state, each.text) for each in shard_sets(text)]
    assert (OK, f"{sets[0]}: where chooses 6 of 6 clips of train-000000.tar") in found
    assert (WARN, f"{sets[1]}: where chooses 0 of 4 clips of extra-000000.tar") in found
    assert (WARN, "their labels differ: labels are not used") in found
    assert found[-1] == (OK, "2 sets, 10 clips; --dry-run tells their shares")


def test_a_set_that_is_missing_and_a_list_that_makes_no_sense_fail(sets: tuple[str, str]) -> None:
    states = [each.state for each in shard_sets(f"[{sets[0]}, {sets[1]}]")]
    assert states.count(FAIL) == 1
    (wrong,) = shard_sets("[{url: /a, weigth: 1}]")
    assert wrong.state == FAIL
    assert "did you mean" in wrong.text
