"""How a shard is cut into jobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shards.builder.local_executor import CLIPS_PER_JOB, job_sizes


@given(clips=st.integers(0, 2000), threads=st.integers(1, 200), is_last=st.booleans())
def test_jobs_hold_every_clip_once_and_keep_every_thread_busy(
    clips: int, threads: int, is_last: bool
) -> None:
    sizes = job_sizes(clips, threads, is_last=is_last)
    assert sum(sizes) == clips
    assert all(1 <= size <= CLIPS_PER_JOB for size in sizes)
    assert len(sizes) >= min(clips, threads) or max(sizes) <= -(-clips // threads)


@given(clips=st.integers(50, 2000), threads=st.integers(2, 20))
def test_the_last_jobs_of_a_build_are_small(clips: int, threads: int) -> None:
    sizes = job_sizes(clips, threads, is_last=True)
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes[-threads:]) <= 2
