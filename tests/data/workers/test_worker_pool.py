"""What happens when workers die, hang, fail, or lose their parent."""

import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pal_ds import storage
from pal_ds.data.errors import WorkerLostError
from pal_ds.data.synthesis import group_builder
from pal_ds.data.workers import worker_process
from tests.support.loading import global_batches, group_print, loader_of

FORK = {"workers": 2, "start_method": "fork"}


def processes(loader):
    return [state.process for state in loader._feed._source._workers]


def loader_started(loader):
    loader.start()
    return loader


def collect(loader, steps):
    return [[[group_print(group) for group in next(loader).groups]] for _ in range(steps)]


def test_killed_workers_are_restarted_where_they_were(shard_url):
    golden = global_batches(shard_url, 9)
    loader = loader_of(shard_url, **FORK)
    found = collect(loader, 2)
    os.kill(processes(loader)[0].pid, signal.SIGKILL)
    found += collect(loader, 3)
    for process in processes(loader):
        os.kill(process.pid, signal.SIGKILL)
    found += collect(loader, 4)
    assert found == golden
    assert loader.stats().worker_restarts == 3
    loader.close()


def test_workers_killed_over_and_over_stop_the_run(shard_url):
    loader = loader_of(shard_url, max_worker_restarts=2, **FORK)
    with pytest.raises(WorkerLostError, match=r"max_worker_restarts = 2"):
        for _ in range(30):
            next(loader)
            os.kill(processes(loader)[0].pid, signal.SIGKILL)
            processes(loader)[0].join()
    loader.close()


def test_worn_workers_are_replaced_without_a_gap(shard_url):
    loader = loader_of(shard_url, worker_clips=12, **FORK)
    first = {process.pid for process in processes(loader_started(loader))}
    assert collect(loader, 9) == global_batches(shard_url, 9)
    assert loader.stats().worker_restarts == 0
    assert first.isdisjoint(process.pid for process in processes(loader))
    loader.close()


def test_signals_of_a_terminal_do_not_end_workers(shard_url):
    loader = loader_of(shard_url, **FORK)
    next(loader)
    for process in processes(loader):
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    collect(loader, 4)
    assert loader.stats().worker_restarts == 0
    started = processes(loader)
    loader.close()
    assert not any(process.is_alive() for process in started)


def test_a_signal_to_the_whole_group_does_not_end_the_fork_server(shard_url):
    # Supervisors and schedulers signal every process of a job; the rank still needs batches until it has saved.
    golden = global_batches(shard_url, 6)
    server = multiprocessing.forkserver._forkserver
    server._stop()
    loader = loader_of(shard_url, workers=2, start_method="forkserver")
    found = collect(loader, 2)
    os.kill(server._forkserver_pid, signal.SIGTERM)
    os.kill(processes(loader)[0].pid, signal.SIGKILL)
    found += collect(loader, 4)
    assert found == golden
    assert loader.stats().worker_restarts == 1
    assert os.waitpid(server._forkserver_pid, os.WNOHANG) == (0, 0)
    loader.close()


def test_a_storage_error_in_a_worker_arrives_as_itself(shard_url, monkeypatch):
    def broken(url, *_args, **_kwargs):
        raise storage.StorageError(url, "connection reset (after 9 tries)")

    monkeypatch.setattr(storage, "read_range", broken)
    loader = loader_of(shard_url, **FORK)
    with pytest.raises(storage.StorageError, match="connection reset") as caught:
        next(loader)
    assert caught.value.url.endswith(".tar")
    assert any("in worker" in note for note in caught.value.__notes__)
    loader.close()


def test_a_bug_in_a_worker_arrives_with_its_traceback(shard_url, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(group_builder, "draw_pairs", broken)
    loader = loader_of(shard_url, **FORK)
    with pytest.raises(ZeroDivisionError, match="oops") as caught:
        next(loader)
    assert "in _described" in caught.value.__notes__[0]
    loader.close()


def test_a_clip_that_hangs_the_decoder_costs_one_worker_and_is_replaced(shard_url, monkeypatch):
    loader = loader_of(shard_url)
    victim = next(loader).keys[2][1]
    loader.close()
    decode = worker_process.decode_frames

    def hangs(video, record, indices, **options):
        if record.key == victim:
            time.sleep(60)
        return decode(video, record, indices, **options)

    monkeypatch.setattr(worker_process, "decode_frames", hangs)
    loader = loader_of(shard_url, decode_timeout=1.5, max_replaced_share=1.0, **FORK)
    micros = [next(loader) for _ in range(1)]
    (row,) = [row for micro in micros for row in micro.replaced]
    assert row["key"] == victim
    assert row["error"] == "decoder hangs: stopped after 2 s"
    assert loader.stats().worker_restarts == 1
    loader.close()


def test_a_script_that_fails_with_its_loader_open_ends(shard_url, tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(SCRIPT.split("    next(loader)")[0] + "    next(loader)\n    raise SystemExit(9)\n")
    root = str(Path(__file__).parents[3])
    command = [sys.executable, str(script), shard_url, str(tmp_path / "marks"), "fork"]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, timeout=120, check=False)
    assert ended.returncode == 9


SCRIPT = """
import sys, time
from pathlib import Path
Path(sys.argv[2]).open("a").write("imported\\n")   # once: workers must not run this file again
sys.modules["deepspeed_was_imported_here"] = sys
from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader

if __name__ == "__main__":
    data = DataConfig(global_batch=12, group_size=6, workers=2, start_method=sys.argv[3])
    loader = GroupLoader(sys.argv[1], data=data, synthesis=SynthesisConfig(size=24), augment=AugmentConfig(),
                         seed=0, rank=0, world_size=1)
    next(loader)
    print(*[state.process.pid for state in loader._feed._source._workers], flush=True)
    time.sleep(120)
"""


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["forkserver", "fork", "spawn"])
def test_nothing_outlives_a_killed_training_process(shard_url, tmp_path, start_method):
    script, marks = tmp_path / "train.py", tmp_path / "marks"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[3])
    parent = subprocess.Popen(
        [sys.executable, str(script), shard_url, str(marks), start_method],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if _alive(pid)]
    assert marks.read_text() == "imported\n"


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_successor_starts_before_the_worn_worker_ends(shard_url):
    loader = loader_started(loader_of(shard_url, worker_clips=12, prefetch=2, **FORK))
    golden = global_batches(shard_url, 12)
    overlaps, found = 0, []
    for _ in range(12):
        found += collect(loader, 1)
        for state in loader._feed._source._workers:
            if state.successor is not None:
                overlaps += state.successor.process.is_alive()
                assert not state.granted & state.successor.granted
                assert len(state.granted) + len(state.held) + len(state.successor.granted) <= 5
    assert found == golden
    assert overlaps > 0
    assert loader.stats().worker_restarts == 0
    started = processes(loader)
    loader.close()
    assert not any(process.is_alive() for process in started)


@pytest.mark.parametrize("victim", ["worn", "successor"])
def test_a_worker_killed_while_it_is_replaced_costs_one_restart(shard_url, victim):
    loader = loader_started(loader_of(shard_url, worker_clips=12, prefetch=2, **FORK))
    golden, found, killed = global_batches(shard_url, 14), [], 0
    for _ in range(14):
        found += collect(loader, 1)
        for state in loader._feed._source._workers:
            if state.successor is not None and state.left > 0 and not killed:
                process = state.process if victim == "worn" else state.successor.process
                process.kill()
                process.join()
                killed += 1
    assert killed == 1
    assert found == golden
    assert loader.stats().worker_restarts == 1
    loader.close()
