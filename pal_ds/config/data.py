"""Options of streaming: which clips, in which batches, and what reading and decoding them may cost."""

from __future__ import annotations

import dataclasses
import os
import warnings

from pal_ds.config.base import check, option
from pal_ds.config.sources import ShardSource, check_sources

START_METHODS = ("forkserver", "fork", "spawn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where clips come from, in which batches, and what streaming them may cost (docs/design.md)."""

    shards: str | tuple[ShardSource, ...] = option(
        "",
        "URL of the shard set (s3://, gs://, file://, or a plain path), or a list of sets to mix: "
        "[{url: ..., weight: 2, split: train, val_split: val, where: {min_seconds: 4}}, ...]; "
        "docs/streaming.md has the conditions of where.",
        fixed=False,
    )
    mix: str = option(
        "within_group",
        "Where several sets meet: within_group (a video's backgrounds come from all sets) or by_group (every group "
        "is of one set, and so are its backgrounds).",
        fixed=True,
    )
    epoch_clips: int = option(
        0, "Clips of an epoch, cut to whole steps; 0 for as many as all sets hold together.", fixed=True
    )
    workers: int | str = option(
        "auto",
        "Decoding processes per rank: auto (this host's cores for each of its ranks, less one for the rank, at "
        "least 1) or a number; 0 decodes in the training process itself (debugging, tests).",
        fixed=False,
    )
    global_batch: int = option(
        512, "Videos per optimizer step over all ranks and micro-steps (paper: 512).", fixed=True
    )
    group_size: int = option(
        8,
        "Videos that are each other's backgrounds; built by one worker. At least 3, and below 5 the choice of "
        "backgrounds is narrow.",
        fixed=True,
    )
    accumulation: int = option(
        1,
        "Micro-steps per optimizer step. Part of a run's identity: batches and BatchNorm statistics depend on it.",
        fixed=True,
    )
    lanes: int = option(
        8,
        "Lanes per group position: a step uses one lane in this many. More lanes feed more workers a rank; "
        "lowered where an epoch is too short. Part of a run's identity.",
        fixed=True,
    )
    slice_bytes: int = option(
        2 << 20,
        "Contiguous bytes of a shard that are shuffled as one piece; about the size of one range read.",
        fixed=True,
    )
    window_slices: int = option(4, "Slices that a lane shuffles together.", fixed=True)
    block_clips: int = option(
        1,
        "Clips that lie side by side in a shard and stay side by side in a group. In a set built with "
        "--keep-recordings they are mostly of one recording: negatives of one scene, which only what happens tells "
        "apart. Divides group_size.",
        fixed=True,
    )
    worker_memory_mb: int = option(
        96,
        "Encoded video a worker may hold, in MB. Where its open windows fit, they are read whole; otherwise clips "
        "are read group by group. Never changes the order.",
        fixed=False,
    )
    read_threads: int = option(
        12,
        "Range reads a worker keeps in flight; twice as many where it reads clips group by group, because small "
        "reads mostly wait for the first byte.",
        fixed=False,
    )
    prefetch: int = option(2, "Finished groups a worker keeps ready, beyond the one in use.", fixed=False)
    start_method: str = option("forkserver", "How workers start: forkserver, fork or spawn.", fixed=False)
    resize: str = option(
        "device",
        "Where cropped frames are resized: device (faster wherever decoding is the limit) or worker.",
        fixed=False,
    )
    decode_device: str = option(
        "cpu",
        "Where clips are decoded: cpu, or cuda: the GPU's video engine (NVDEC), the same frames with pixels a few "
        "grey levels off. Every worker then holds a CUDA context on the rank's GPU.",
        fixed=False,
    )
    pin_memory: bool = option(
        True, "Page-lock the workers' memory for fast copies to a CUDA device, if there is one.", fixed=False
    )
    decode_timeout: float = option(
        60.0,
        "Seconds after which a worker stuck in one clip is restarted and the clip replaced; 0 never.",
        fixed=False,
    )
    worker_clips: int = option(
        5_000,
        "Clips after which a worker is replaced by a fresh one: opening a decoder leaks about 1 KB in the library. "
        "0 never.",
        fixed=False,
    )
    max_worker_restarts: int = option(
        20, "Workers lost to signals or hangs before the run gives up, per rank.", fixed=False
    )
    max_replaced_share: float = option(
        0.05,
        "Share of clips that may be replaced because they can't be decoded; above it the run stops.",
        fixed=False,
    )
    retry_seconds: float = option(
        600.0, "How long a failing read from the store is tried again before the run stops.", fixed=False
    )
    cache_dir: str = option(
        "",
        "Folder on a local disk (NVMe) that keeps clips read from the store for later epochs, shared by the ranks of "
        "a host. Never changes the order. Off by default: then nothing is written to a local disk.",
        fixed=False,
    )
    cache_bytes: int = option(
        0, "What the clips in data.cache_dir may take there, in bytes, over all processes.", fixed=False
    )
    cache_frames: bool = option(
        False,
        "Keep the decoded frames of clips in data.cache_dir too, width x height x 3 bytes each, so that later epochs "
        "need not decode: for few clips of few pixels, where decoding holds up training. The pixels are the same.",
        fixed=False,
    )

    def __post_init__(self) -> None:
        if not isinstance(self.shards, str):
            check_sources(self.shards)
        check(self.mix in ("within_group", "by_group"), "data.mix", self.mix, "use within_group or by_group")
        check(
            self.mix == "within_group" or len(self.sources) > 1,
            "data.mix",
            self.mix,
            "has no effect with one shard set; remove it, or give data.shards a list",
        )
        check(
            self.epoch_clips == 0 or self.epoch_clips >= self.global_batch,
            "data.epoch_clips",
            self.epoch_clips,
            f"use at least data.global_batch = {self.global_batch}, or 0",
        )
        check(
            self.workers == "auto" or (isinstance(self.workers, int) and self.workers >= 0),
            "data.workers",
            self.workers,
            "use auto, or a whole number of processes, 0 or more",
        )
        check(
            self.group_size >= 3,
            "data.group_size",
            self.group_size,
            "use at least 3: a video and two backgrounds",
        )
        check(
            self.global_batch >= self.group_size and self.global_batch % self.group_size == 0,
            "data.global_batch",
            self.global_batch,
            f"use a multiple of data.group_size = {self.group_size}",
        )
        groups = self.global_batch // self.group_size
        check(
            self.accumulation >= 1 and groups % self.accumulation == 0,
            "data.accumulation",
            self.accumulation,
            f"use a divisor of global_batch / group_size = {groups}",
        )
        check(self.lanes >= 1, "data.lanes", self.lanes, "use 1 or more")
        check(self.slice_bytes >= 1, "data.slice_bytes", self.slice_bytes, "use some MB, such as 2097152")
        check(self.window_slices >= 1, "data.window_slices", self.window_slices, "use 1 or more")
        check_blocks(self.block_clips, self.group_size)
        check(self.worker_memory_mb >= 1, "data.worker_memory_mb", self.worker_memory_mb, "use 1 or more")
        check(1 <= self.read_threads <= 64, "data.read_threads", self.read_threads, "use 1 to 64")
        check(self.prefetch >= 1, "data.prefetch", self.prefetch, "use 1 or more")
        check(
            self.start_method in START_METHODS,
            "data.start_method",
            self.start_method,
            f"use one of {', '.join(START_METHODS)}",
        )
        check(self.resize in ("device", "worker"), "data.resize", self.resize, "use device or worker")
        check(
            self.decode_device in ("cpu", "cuda"), "data.decode_device", self.decode_device, "use cpu or cuda"
        )
        check(
            self.decode_device == "cpu" or self.workers == 0 or self.start_method != "fork",
            "data.start_method",
            self.start_method,
            "a forked process can't use CUDA: use forkserver or spawn with data.decode_device = cuda",
        )
        check(
            self.decode_timeout >= 0,
            "data.decode_timeout",
            self.decode_timeout,
            "use seconds, or 0 for never",
        )
        check(
            self.worker_clips >= 0,
            "data.worker_clips",
            self.worker_clips,
            "use a number of clips, or 0 for never",
        )
        check(
            self.max_worker_restarts >= 0,
            "data.max_worker_restarts",
            self.max_worker_restarts,
            "use 0 or more",
        )
        check(
            0 <= self.max_replaced_share <= 1,
            "data.max_replaced_share",
            self.max_replaced_share,
            "use a share between 0 and 1",
        )
        check(self.retry_seconds > 0, "data.retry_seconds", self.retry_seconds, "use seconds above 0")
        check(
            "://" not in self.cache_dir,
            "data.cache_dir",
            self.cache_dir,
            "give a folder on a local disk: a cache in a store would save nothing",
        )
        check(
            bool(self.cache_dir) == (self.cache_bytes > 0),
            "data.cache_bytes",
            self.cache_bytes,
            "give what data.cache_dir may take, in bytes above 0"
            if self.cache_dir
            else "has no effect without data.cache_dir: give both",
        )
        check(
            bool(self.cache_dir) or not self.cache_frames,
            "data.cache_frames",
            self.cache_frames,
            "has no effect without data.cache_dir: give both",
        )
        check(
            self.decode_device == "cpu" or not self.cache_frames,
            "data.cache_frames",
            self.cache_frames,
            "frames are kept where the CPU decodes: use data.decode_device = cpu",
        )
        if self.group_size < 5:
            warnings.warn(
                f"data.group_size = {self.group_size}: few pairs of backgrounds exist in a group; use 5 or more",
                stacklevel=2,
            )

    @property
    def sources(self) -> tuple[ShardSource, ...]:
        """The shard sets in order: one, where ``shards`` is a URL; none, where nothing is given."""
        if isinstance(self.shards, str):
            return (ShardSource(url=self.shards),) if self.shards else ()
        return self.shards

    @property
    def processes(self) -> int:
        """Decoding processes of this rank, on this host: ``workers`` as a number."""
        if isinstance(self.workers, int):
            return self.workers
        return automatic_workers(len(os.sched_getaffinity(0)), int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def check_blocks(block_clips: int, group_size: int) -> None:
    """Refuse blocks of clips of which groups don't consist.

    Raises:
        ConfigError: the group size is no multiple of the block size.
    """
    check(
        block_clips >= 1 and group_size % block_clips == 0,
        "data.block_clips",
        block_clips,
        f"use a divisor of data.group_size = {group_size}",
    )


def automatic_workers(cores: int, ranks: int) -> int:
    """Return how many workers a rank gets where ``data.workers`` is auto.

    Args:
        cores: cores of the host that its ranks may use.
        ranks: ranks of the host.
    """
    return max(1, cores // max(1, ranks) - 1)
