"""How much every variant gets: one object, equal for all of them."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Sizes of the comparison.

    Attributes:
        width: factor on the I3D's channels. size: side of its input in pixels.
        batch: videos a step. steps: optimizer steps. workers: decoding processes of a rank.
        queue: keys in the queue, a few steps' worth and fewer than an epoch.
        short_side: of the shard set. stride: frames between features of the untrimmed videos.
        epochs: of the localization heads.
        figures: annotated validation videos on which Fig. 3 is measured; 0 takes all.
    """

    width: float
    size: int
    batch: int
    steps: int
    workers: int
    queue: int
    short_side: int
    stride: int
    epochs: int
    figures: int

    def pretraining(self) -> list[str]:
        """Settings of ``launch/pretrain.py``."""
        return [
            f"model.width={self.width}",
            f"synthesis.size={self.size}",
            f"data.global_batch={self.batch}",
            f"data.workers={self.workers}",
            f"run.max_steps={self.steps}",
        ]


#: ``two-core`` fits a small machine; ``gpu`` is the paper's network and input on one card; ``smoke`` shows that the
#: stages run.
BUDGETS = {
    "smoke": Budget(
        width=0.125,
        size=32,
        batch=8,
        steps=2,
        workers=0,
        queue=16,
        short_side=36,
        stride=8,
        epochs=1,
        figures=2,
    ),
    "two-core": Budget(
        width=0.25,
        size=56,
        batch=32,
        steps=600,
        workers=1,
        queue=256,
        short_side=64,
        stride=8,
        epochs=40,
        figures=20,
    ),
    "gpu": Budget(
        width=1.0,
        size=112,
        batch=64,
        steps=6000,
        workers=12,
        queue=256,
        short_side=112,
        stride=4,
        epochs=40,
        figures=0,
    ),
}
