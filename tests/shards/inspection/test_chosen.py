"""``pal-shard ls --where`` on a real set."""

import json

import pytest

from shards.cli import main
from tests.support.tiny_shards import encode, sample, write_set


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    video = encode(3, 40)
    shards = [
        [
            sample(f"{shard}/{number}.mp4", video, 25 * (number + 1), label=("run", "jump")[number % 2])
            for number in range(6)
        ]
        for shard in range(2)
    ]
    return write_set(
        tmp_path_factory.mktemp("set"), {"train": shards, "val": [shards[0][:2]]}, labels=("jump", "run")
    )


def test_it_counts_what_conditions_choose(url, capsys):
    assert main(["ls", url, "--where", "min_seconds: 3, labels: [run]", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["where"] == {"min_seconds": 3.0, "labels": ["run"]}
    train = found["splits"]["train"]
    assert (train["clips"], train["of"], train["seconds"]) == (4, 12, 16.0)
    assert train["shards"][1] == {"name": "train-000001.tar", "clips": 2, "of": 6}
    assert found["splits"]["val"]["clips"] == 0
    assert main(["ls", url, "--where", "min_seconds: 3, labels: [run]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train-000000.tar       2 of 6 clips"
    assert lines[2].startswith("train: 4 of 12 clips (33.3%), 0.00 hours, ")


def test_it_lists_the_samples_of_a_shard(url, capsys):
    assert main(["ls", url, "--shard", "train-000001", "--where", "min_seconds: 5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["frames"] for row in found["samples"]] == [125, 150]
    assert main(["ls", url, "--shard", "train-000001", "--where", "min_seconds: 5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_conditions_that_make_no_sense_are_bad_usage(url, capsys):
    assert main(["ls", url, "--where", "seconds: 3"]) == 2
    assert "--where: where.seconds = 3: unknown key" in capsys.readouterr().err
    assert main(["ls", url, "--where", "keys: /no/such/file"]) == 2
