"""How much everything gets: one object, equal for all variants."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Sizes of the comparison.

    Attributes:
        size, corpus_seed: of pal-mocap, for the figures; never tuned on.
        dev_size, dev_seed: of the development set, for everything that is chosen.
        backbone, width, side, precision: the network and its input in pixels.
        batch: samples a step. samples: that a trained variant sees. queue: keys in it.
        workers: decoding processes of a run.
        decoded_bytes: of decoded frames that all runs keep in the work folder; 0 keeps none.
        stride, trimmed_stride: frames between features of untrimmed videos and of trimmed clips.
        head_epochs, dev_head_epochs: of the localization heads; fewer where there are more videos.
        validations: of a pre-training.
        equivariance: videos of that measure; 0 takes all.
        seeds: of the main variants. fewer_seeds: of the ablations.
    """

    size: str
    corpus_seed: int
    dev_size: str
    dev_seed: int
    backbone: str
    width: float
    side: int
    precision: str
    batch: int
    samples: int
    queue: int
    workers: int
    decoded_bytes: int
    stride: int
    trimmed_stride: int
    head_epochs: int
    dev_head_epochs: int
    validations: int
    equivariance: int
    seeds: tuple[int, ...]
    fewer_seeds: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps of a trained variant."""
        return max(1, self.samples // self.batch)

    def settings(self, *, trained: bool, contrastive: bool) -> list[str]:
        """Return settings of ``launch/pretrain.py``.

        Args:
            trained: False moves no weight, and runs for as long as BatchNorm's statistics take to settle.
            contrastive: whether there is a queue.
        """
        steps = self.steps if trained else min(self.steps, UNTRAINED_STEPS)
        every = max(1, steps // self.validations)
        return [
            f"model.backbone={self.backbone}",
            f"model.width={self.width}",
            f"synthesis.size={self.side}",
            f"precision={self.precision}",
            f"data.global_batch={self.batch}",
            f"data.workers={self.workers}",
            f"run.max_steps={steps}",
            f"schedule.warmup_steps={steps // 20}",
            f"validation.every_steps={every}",
            f"checkpoint.every_steps={max(1, min(every, CHECKPOINT_STEPS))}",
            "checkpoint.keep_last=1",
            f"log.every_steps={max(1, steps // 200)}",
            *([f"queue.size={self.queue}"] if contrastive else []),
            *([] if trained else ["optimizer.lr=0"]),
        ]

    def cache(self) -> tuple[str, ...]:
        """Return settings of ``launch/pretrain.py`` that spare decoding, and change no result."""
        if not self.decoded_bytes:
            return ()
        settings = ("cache_dir={work}/decoded", f"cache_bytes={self.decoded_bytes}", "cache_frames=true")
        return tuple(f"data.{setting}" for setting in settings)


#: Steps without learning, for BatchNorm's running statistics (momentum 0.1) to settle.
UNTRAINED_STEPS = 40
#: A stopped pre-training loses so many steps at most: two minutes on two cores.
CHECKPOINT_STEPS = 100

_CORES = Profile(
    size="evidence",
    corpus_seed=0,
    dev_size="development",
    dev_seed=1000,
    backbone="tsm_resnet8",
    width=0.25,
    side=56,
    precision="fp32",
    batch=64,
    samples=300_800,
    queue=1024,
    workers=0,
    decoded_bytes=12_000_000_000,
    stride=4,
    trimmed_stride=16,
    # 4,200 and 3,000 steps of a head, on 420 and 100 training videos.
    head_epochs=10,
    dev_head_epochs=30,
    validations=20,
    equivariance=0,
    seeds=(0, 1, 2),
    fewer_seeds=(0, 1),
)
#: ``two-core``: a small network, hours on a small machine. ``gpu``: the paper's network and input, half an hour of
#: one card for the main variants. ``probe``: seconds; shows that everything runs, and nothing else.
PROFILES = {
    "two-core": _CORES,
    "gpu": dataclasses.replace(
        _CORES,
        size="evidence-large",
        backbone="i3d",
        width=1.0,
        side=112,
        precision="bf16",
        batch=128,
        samples=128_000,
        workers=14,
        decoded_bytes=0,
        seeds=(0,),
        fewer_seeds=(0,),
    ),
    "probe": dataclasses.replace(
        _CORES,
        size="probe",
        dev_size="probe",
        side=32,
        width=0.125,
        batch=16,
        samples=32,
        queue=32,
        stride=8,
        trimmed_stride=32,
        head_epochs=1,
        dev_head_epochs=1,
        validations=1,
        equivariance=2,
        seeds=(0,),
        fewer_seeds=(0,),
    ),
}
