"""From a corpus to a variant's figures, as stages that are the normal commands."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from benchmarks.fidelity.budget import Budget
from benchmarks.fidelity.stage import ROOT, Stage
from benchmarks.fidelity.variants import CONFIGS, Variant

#: Steps for random weights: enough for BatchNorm's running statistics (momentum 0.1) to settle.
RANDOM_STEPS = 30
#: Frames between the features of a trimmed clip, whose mean is what is classified.
TRIMMED_STRIDE = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Road:
    """All stages of one variant and seed.

    Attributes:
        variant: whose they are. seed: of weights, draws and heads.
        pretrain: the run. detection: G-TAD. agnostic: the same without names. proposals: BMN.
        probe: kNN and linear probe. figure: Fig. 3.
    """

    variant: Variant
    seed: int
    pretrain: Stage
    detection: Stage
    agnostic: Stage
    proposals: Stage
    probe: Stage
    figure: Stage

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that give figures, in the order in which they are run."""
        return (
            self.pretrain,
            self.probe,
            self.detection,
            self.agnostic,
            self.proposals,
            self.figure,
        )


def corpus_stage(size: str, workers: int) -> Stage:
    """Make pal-mocap."""
    return Stage(
        name="corpus",
        owner=size,
        words=(
            "{python}",
            "-m",
            "corpora.mocap",
            "--size",
            size,
            "--out",
            "{out}",
            "--workers",
            "{workers}",
        ),
        places=(("workers", str(workers)),),
    )


def given_corpus(folder: Path) -> Stage:
    """Take a corpus that is there; known by what its ``corpus.json`` says.

    Raises:
        FileNotFoundError: there is none.
    """
    summary = folder / "corpus.json"
    if not summary.exists():
        raise FileNotFoundError(f"--corpus {folder}: no corpus.json in it; make one with -m corpora.mocap")
    digest = hashlib.sha256(summary.read_bytes()).hexdigest()
    return Stage(
        name="corpus",
        owner="given",
        words=("ln", "-sfn", "{given}", "{out}"),
        places=(("given", str(folder.resolve())),),
        identity=digest,
    )


def build_road(corpus: Stage, variant: Variant, seed: int, budget: Budget, *, ranks: int) -> Road:
    """List the stages of one variant and seed.

    Args:
        corpus: stage that makes or takes pal-mocap.
        variant: what is pre-trained.
        seed: of everything.
        budget: sizes, equal for all variants.
        ranks: processes of the pre-training; more than one are started by ``deepspeed``.
    """
    owner = f"{variant.name}-seed{seed}"
    shards = _shards(corpus, budget)
    pretrain = _pretrain(shards, variant, seed, budget, owner, ranks)
    features = _features(corpus, pretrain, owner, budget)
    detection = _head("tad", "gtad", corpus, features, seed, budget, owner)
    clips = Stage(
        name="clips",
        owner=owner,
        words=(*_extract("{0}"), "--videos", "{1}", "--stride", str(TRIMMED_STRIDE)),
        inputs=(pretrain, shards),
    )
    return Road(
        variant=variant,
        seed=seed,
        pretrain=pretrain,
        detection=detection,
        agnostic=Stage(
            name="agnostic",
            owner=owner,
            words=(
                *("{python}", "-m", "benchmarks.fidelity.agnostic", "--run", "{0}", "--out", "{out}"),
                *("--ground-truth", "{1}/untrimmed/activitynet.json"),
            ),
            inputs=(detection, corpus),
            files=(Path(__file__).parent / "agnostic.py",),
        ),
        proposals=_head("apg", "bmn", corpus, features, seed, budget, owner),
        probe=Stage(
            name="probe",
            owner=owner,
            words=(
                "{python}",
                "-m",
                "benchmarks.fidelity.probe",
                "--features",
                "{0}",
                "--shards",
                "{1}",
                "--out",
                "{out}",
            ),
            inputs=(clips, shards),
            files=(Path(__file__).parent / "probe.py",),
        ),
        figure=_figure(corpus, pretrain, owner, budget),
    )


def _shards(corpus: Stage, budget: Budget) -> Stage:
    return Stage(
        name="shards",
        owner="all",
        words=(
            *("{python}", "-m", "shards.cli", "build", "{0}/trimmed/all.csv", "{out}"),
            *("--video-root", "{0}/trimmed/videos", "--split-column", "--with-labels", "--json"),
            *("--short-side", str(budget.short_side)),
        ),
        inputs=(corpus,),
    )


def _pretrain(shards: Stage, variant: Variant, seed: int, budget: Budget, owner: str, ranks: int) -> Stage:
    steps = budget.steps if variant.trained else min(RANDOM_STEPS, budget.steps)
    budget = dataclasses.replace(budget, steps=steps)
    start = ("{python}",) if ranks == 1 else ("{deepspeed}", "--num_accelerators", str(ranks))
    queue = (f"queue.size={budget.queue}",) if variant.contrastive else ()
    return Stage(
        name="pretrain",
        owner=owner,
        words=(
            *(*start, "launch/pretrain.py", "--config", str(variant.config.relative_to(ROOT))),
            *("data.shards={0}", "run.dir={out}", f"run.seed={seed}", *budget.pretraining(), *queue),
        ),
        inputs=(shards,),
        files=variant.files(),
    )


def _extract(checkpoint: str) -> tuple[str, ...]:
    return ("{python}", "launch/extract.py", "--checkpoint", checkpoint, "--out", "{out}", "--json")


def _features(corpus: Stage, pretrain: Stage, owner: str, budget: Budget) -> Stage:
    return Stage(
        name="features",
        owner=owner,
        words=(*_extract("{0}"), "--videos", "{1}/untrimmed/videos", "--stride", str(budget.stride)),
        inputs=(pretrain, corpus),
    )


def _head(
    task: str, head: str, corpus: Stage, features: Stage, seed: int, budget: Budget, owner: str
) -> Stage:
    config = CONFIGS / f"{head}.yaml"
    return Stage(
        name=f"{task}-{head}",
        owner=owner,
        words=(
            *("{python}", "launch/transfer.py", "--task", task, "--config", str(config.relative_to(ROOT))),
            *("data.features={0}", "data.annotations={1}/untrimmed/activitynet.json", "run.dir={out}"),
            *(f"run.seed={seed}", f"run.epochs={budget.epochs}"),
        ),
        inputs=(features, corpus),
        files=(config,),
    )


def _figure(corpus: Stage, pretrain: Stage, owner: str, budget: Budget) -> Stage:
    return Stage(
        name="figure3",
        owner=owner,
        words=(
            *(
                "{python}",
                "-m",
                "pal_ds.viz.figure3",
                "--checkpoint",
                "{0}",
                "--videos",
                "{1}/untrimmed/videos",
            ),
            *(
                "--annotations",
                "{1}/untrimmed/activitynet.json",
                "--count",
                str(budget.figures),
                "--out",
                "{out}",
            ),
        ),
        inputs=(pretrain, corpus),
    )
