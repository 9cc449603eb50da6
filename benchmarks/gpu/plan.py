"""What is proved, in which order: phases that each end within nine minutes, and steps with limits of their own."""

from __future__ import annotations

import dataclasses

#: Seconds a phase may take: a phase is one sitting at a machine that is lent for ten minutes.
PHASE_SECONDS = 530.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is tried, in a process of its own.

    Attributes:
        name: of the step and of its result.
        where: ``module:function`` below ``benchmarks.gpu``; called with a Context, returns a JSON object.
        limit: seconds after which it is ended.
        about: what it answers, one line.
    """

    name: str
    where: str
    limit: float
    about: str


PHASES: dict[str, tuple[Step, ...]] = {
    "ready": (
        Step(name="machine", where="machine:facts", limit=60, about="driver, card, versions"),
        Step(name="clips", where="clips:small_set", limit=120, about="a small shard set to run on"),
        Step(name="doctor", where="machine:doctor", limit=120, about="what the doctor finds"),
        Step(name="ceilings", where="machine:ceilings", limit=90, about="copies and matrix products at best"),
    ),
    "parts": (
        Step(
            name="rendering",
            where="parts:rendering",
            limit=120,
            about="rendering against the CPU's, and its time",
        ),
        Step(
            name="batch_norm",
            where="parts:batch_norm",
            limit=60,
            about="synchronised BatchNorm against plain",
        ),
        Step(name="pooling", where="parts:pooling", limit=60, about="the byte-keeping pool against torch's"),
        Step(
            name="queue",
            where="parts:queue",
            limit=60,
            about="key queue and moving average against the CPU's",
        ),
        Step(
            name="autocast",
            where="parts:autocast",
            limit=120,
            about="the network in bf16 and fp16 against fp32",
        ),
        Step(
            name="page_lock", where="parts:page_lock", limit=60, about="copies from page-locked shared memory"
        ),
    ),
    "runs": (
        Step(
            name="resume",
            where="runs:resume",
            limit=240,
            about="stopped by SIGTERM and resumed, as without a stop",
        ),
        Step(
            name="bits", where="runs:bits", limit=150, about="the same steps twice, default and deterministic"
        ),
        Step(name="overflow", where="runs:overflow", limit=60, about="fp16 with a forced overflow"),
        Step(name="zero", where="runs:zero", limit=120, about="ZeRO 0, 1 and 2 against one another"),
        Step(
            name="recompute",
            where="runs:recompute",
            limit=120,
            about="recomputed stages: gradients and memory",
        ),
    ),
    "speed": (
        Step(
            name="step_time",
            where="speed:step_time",
            limit=300,
            about="eager, compiled, channels-last, recomputed",
        ),
        Step(
            name="largest_batch",
            where="speed:largest_batch",
            limit=150,
            about="what fits, and what was planned",
        ),
        Step(name="kernels", where="speed:kernels", limit=80, about="where a step's time goes"),
    ),
    "end_to_end": (
        Step(
            name="rendered_clips",
            where="clips:rendered_set",
            limit=150,
            about="rendered clips for what follows",
        ),
        Step(
            name="streaming",
            where="end_to_end:streaming",
            limit=200,
            about="training from a server shaped like S3",
        ),
        Step(
            name="video_engine",
            where="end_to_end:video_engine",
            limit=90,
            about="decoding by NVDEC, for sure",
        ),
        Step(
            name="checkpoint",
            where="end_to_end:checkpoint",
            limit=90,
            about="how long a checkpoint holds a step up",
        ),
    ),
    "letter": (
        Step(
            name="letter_clips",
            where="clips:letter_set",
            limit=240,
            about="rendered clips for the letter's batch",
        ),
        Step(
            name="letter", where="letter:run", limit=520, about="500 steps of the paper's run; again to go on"
        ),
    ),
}
STEPS = {step.name: step for steps in PHASES.values() for step in steps}
