"""Fixtures of the data package."""

import pytest

from tests.support.tiny_shards import encode, sample, write_set


@pytest.fixture(scope="session")
def videos() -> list[tuple[bytes, int]]:
    """Six real mp4 files: (bytes, frames), some shorter than 8 x 8 frames."""
    return [(encode(seed, frames), frames) for seed, frames in enumerate((150, 90, 70, 120, 50, 30))]


@pytest.fixture(scope="session")
def shard_url(tmp_path_factory, videos) -> str:
    """A set of 53 training clips in 3 shards of different lengths, and 11 validation clips."""

    def shard(split, number, count):
        made = []
        for place in range(count):
            video, frames = videos[(number * 7 + place) % len(videos)]
            label = ("jump", "run")[place % 2]
            made.append(sample(f"{split}/{number}/{place}.mp4", video, frames, label=label))
        return made

    return write_set(
        tmp_path_factory.mktemp("shards"),
        {
            "train": [shard("train", 0, 20), shard("train", 1, 3), shard("train", 2, 30)],
            "val": [shard("val", 0, 11)],
        },
        labels=("jump", "run"),
    )
