from __future__ import annotations

import pytest

from pal_ds.config.base import ConfigError
from pal_ds.distributed.launcher import Place, meeting_point, read_place

SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NNODES": "2"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def numbers(place: Place) -> tuple[int, int, int, int]:
    return place.rank, place.world_size, place.local_rank, place.local_world_size


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0, 1)),
        (TORCHRUN, (3, 4, 1, 2)),
        (SLURM, (5, 8, 1, 4)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8"}, (5, 8, 0, 8)),
        ({**SLURM, "SLURM_NTASKS_PER_NODE": "8"}, (5, 8, 1, 8)),
        ({**SLURM, **TORCHRUN}, (3, 4, 1, 2)),
        ({**SLURM, "RANK": "0", "WORLD_SIZE": "1"}, (0, 1, 1, 1)),
    ],
)
def test_every_launcher_is_read(environment: dict[str, str], expected: tuple[int, int, int, int]):
    assert numbers(read_place(environment)) == expected


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK"),
        ({"RANK": "1"}, "RANK"),
        ({"SLURM_PROCID": "8", "SLURM_NTASKS": "8"}, "SLURM_PROCID"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
    ],
)
def test_a_contradiction_is_an_error_by_name(environment: dict[str, str], name: str):
    with pytest.raises(ConfigError) as caught:
        read_place(environment)
    assert caught.value.field == name


def test_ranks_meet_where_the_launcher_says():
    assert meeting_point(read_place(TORCHRUN), {"MASTER_ADDR": "node-1", "MASTER_PORT": "4000"}) == (
        "node-1",
        4000,
    )
    assert meeting_point(read_place({**SLURM, "SLURM_NNODES": "1"}), {}) == ("127.0.0.1", 29500)


@pytest.mark.parametrize("environment", [SLURM, TORCHRUN, {"RANK": "0", "WORLD_SIZE": "2"}])
def test_ranks_that_may_be_on_several_hosts_need_an_address(environment: dict[str, str]):
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        meeting_point(read_place(environment), environment)


def test_pre_training_and_extraction_deal_alike_under_slurm(monkeypatch: pytest.MonkeyPatch):
    """``srun launch/extract.py`` gives every task its own share of the videos."""
    from pal_ds.transfer.extraction.video_source import VideoRef, deal_videos

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    videos = [VideoRef(id=f"{n}", source=f"{n}.mp4", url=f"{n}.mp4", bytes=1) for n in range(20)]
    shares = []
    for task in range(8):
        monkeypatch.setenv("SLURM_PROCID", str(task))
        monkeypatch.setenv("SLURM_NTASKS", "8")
        place = read_place()
        shares.append([video.id for video in deal_videos(videos, place.rank, place.world_size)])
    assert sorted(name for share in shares for name in share) == sorted(video.id for video in videos)
    assert all(shares)
