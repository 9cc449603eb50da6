"""Fixtures of the models package: one thread, and a gloo pool shared by the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.rank_pool import RankPool


@pytest.fixture(autouse=True)
def one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def rank_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    pool = RankPool(tmp_path_factory.mktemp("rank-pool"))
    yield pool
    pool.close()
