"""From a corpus to a row's figures, as stages that are the normal commands."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.evidence.profiles import Profile
from benchmarks.evidence.stage import ROOT, Stage
from benchmarks.evidence.variants import CONFIGS, VARIANTS, Variant
from corpora.mocap.build import FORMAT
from corpora.mocap.corpus_plan import SIZES

_HERE = Path(__file__).parent
#: Raised by hand when what a stage computes changes in the project's own code; part of the stage's key. The commit at
#: which a stage ran is kept beside it.
VERSIONS = {"pretrain": 1, "features": 1, "head": 1, "shards": 1}
#: Spans shorter than two clips of 8 frames at 8 frames a second are left out.
SHORTEST_SPAN = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """All stages of one variant and seed; the last holds its figures.

    Attributes:
        variant: whose they are. seed: of weights, draws and heads.
        pretrain: the run; None for a reference.
        measures: every figure, and what it needs before it.
    """

    variant: Variant
    seed: int
    pretrain: Stage | None
    measures: Stage

    @property
    def name(self) -> str:
        """In tables and names of folders."""
        return f"{self.variant.name}-seed{self.seed}"


def build_row(profile: Profile, variant: Variant, seed: int, *, development: bool = False) -> Row:
    """List the stages of one variant and seed.

    Args:
        profile: sizes.
        variant: what is measured.
        seed: of everything.
        development: on the development set instead of the one for the figures.
    """
    corpus = corpus_stage(profile, development=development)
    owner = f"{variant.name}-seed{seed}"
    if variant.reference:
        reference = _reference(corpus, profile, variant.name)
        untrimmed, trimmed = ("{0}/untrimmed", reference), ("{0}/trimmed", reference)
        pretrain, moved = None, None
    else:
        pretrain = _pretrain(corpus, profile, variant, seed)
        untrimmed = ("{0}", _features(corpus, pretrain, owner, "untrimmed", profile.stride))
        trimmed = ("{0}", _features(corpus, pretrain, owner, "trimmed", profile.trimmed_stride))
        moved = _equivariance(corpus, pretrain, owner, profile)
    epochs = profile.dev_head_epochs if development else profile.head_epochs
    heads = {
        name: _head(task, name, corpus, untrimmed, seed, epochs, owner)
        for name, task in (("gtad", "tad"), ("anchor_free", "tad"), ("bmn", "apg"))
    }
    measures = _measures(corpus, untrimmed, trimmed, heads, moved, owner)
    return Row(variant=variant, seed=seed, pretrain=pretrain, measures=measures)


def corpus_stage(profile: Profile, *, development: bool) -> Stage:
    """Make pal-mocap: the development set, or that of the figures."""
    size, seed = (profile.dev_size, profile.dev_seed) if development else (profile.size, profile.corpus_seed)
    return Stage(
        name="corpus",
        owner=f"{size}-{seed}",
        words=(
            *("{python}", "-m", "corpora.mocap", "--size", size, "--seed", str(seed)),
            *("--out", "{out}", "--workers", "{cores}", "--no-page"),
        ),
        identity=f"{FORMAT} {SIZES[size]}",
    )


def shards_stage(corpus: Stage, *, spans: bool) -> Stage:
    """Pack the trimmed clips as they are, or the labelled spans of the untrimmed videos."""
    build: tuple[str, ...] = ("{python}", "-m", "shards.cli", "build")
    packed: tuple[str, ...] = (
        "--split-column",
        "--with-labels",
        "--shard-bytes",
        "16MB",
        "--workers",
        "{cores}",
        "--json",
    )
    if not spans:
        words: tuple[str, ...] = (
            *build,
            "{0}/trimmed/all.csv",
            "{out}",
            "--video-root",
            "{0}/trimmed/videos",
            "--copy",
            *packed,
        )
        return _versioned("shards", "shards", "trimmed", words, (corpus,))
    table = Stage(
        name="spans",
        owner="all",
        words=(
            *("{python}", "-m", "pal_ds.cli.evaluate", "spans", "--out", "{out}/spans.csv"),
            *("--ground-truth", "{0}/untrimmed/activitynet.json", "--min-seconds", str(SHORTEST_SPAN)),
        ),
        inputs=(corpus,),
    )
    words = (*build, "{1}/spans.csv", "{out}", "--video-root", "{0}/untrimmed/videos", *packed)
    return _versioned("shards", "shards", "spans", words, (corpus, table))


def _pretrain(corpus: Stage, profile: Profile, variant: Variant, seed: int) -> Stage:
    shards = shards_stage(corpus, spans=variant.spans)
    inputs: tuple[Stage, ...] = (shards,)
    begin: tuple[str, ...] = ()
    if variant.start:
        before = _pretrain(corpus, profile, VARIANTS[variant.start], seed)
        inputs = (shards, _export(before, f"{variant.start}-seed{seed}"))
        begin = ("model.weights={1}/backbone.safetensors",)
    # MoCo-like and PAL configs have a queue, classifiers none.
    contrastive = variant.config not in ("tac", "supervised")
    words = (
        *("{python}", "launch/pretrain.py", "--config", str(variant.files()[0].relative_to(ROOT))),
        *("data.shards={0}", "run.dir={out}", f"run.seed={seed}", *begin),
        *profile.settings(trained=variant.trained, contrastive=contrastive),
    )
    owner = f"{variant.name}-seed{seed}"
    run = _versioned("pretrain", "pretrain", owner, words, inputs, variant.files())
    return dataclasses.replace(run, aside=profile.cache())


def _export(run: Stage, owner: str) -> Stage:
    words = (
        *("{python}", "-m", "pal_ds.cli.pretrain", "export", "{0}"),
        *("--out", "{out}/backbone.safetensors"),
    )
    return _versioned("pretrain", "export", owner, words, (run,))


def _features(corpus: Stage, pretrain: Stage, owner: str, kind: str, stride: int) -> Stage:
    words = (
        *("{python}", "launch/extract.py", "--checkpoint", "{0}", "--videos", f"{{1}}/{kind}/videos"),
        *("--out", "{out}", "--stride", str(stride), "--batch", "64", "--json"),
    )
    return _versioned("features", f"features-{kind}", owner, words, (pretrain, corpus))


def _reference(corpus: Stage, profile: Profile, name: str) -> Stage:
    folder = _HERE / "references"
    return Stage(
        name="reference",
        owner=name,
        words=(
            *("{python}", "-m", "benchmarks.evidence.references", "--reference", name, "--corpus", "{0}"),
            *("--untrimmed-stride", str(profile.stride), "--trimmed-stride", str(profile.trimmed_stride)),
            *("--out", "{out}"),
        ),
        inputs=(corpus,),
        files=tuple(sorted(folder.glob("*.py"))),
    )


def _head(
    task: str,
    name: str,
    corpus: Stage,
    features: tuple[str, Stage],
    seed: int,
    epochs: int,
    owner: str,
) -> Stage:
    config = CONFIGS / f"heads/{name}.yaml"
    drop = max(1, round(0.7 * epochs))
    words = (
        *("{python}", "launch/transfer.py", "--task", task, "--config", str(config.relative_to(ROOT))),
        *(f"data.features={features[0]}", "data.annotations={1}/untrimmed/activitynet.json", "run.dir={out}"),
        *(f"run.seed={seed}", f"run.epochs={epochs}", f"optimizer.drop_after=[{drop}]"),
    )
    return _versioned("head", name, owner, words, (features[1], corpus), (config,))


def _equivariance(corpus: Stage, pretrain: Stage, owner: str, profile: Profile) -> Stage:
    return Stage(
        name="equivariance",
        owner=owner,
        words=(
            *("{python}", "-m", "benchmarks.evidence.measures.equivariance", "--checkpoint", "{0}"),
            *("--corpus", "{1}", "--videos", str(profile.equivariance), "--out", "{out}"),
        ),
        inputs=(pretrain, corpus),
        files=(_HERE / "measures/equivariance.py", _HERE / "measures/bootstrap.py"),
    )


def _measures(
    corpus: Stage,
    untrimmed: tuple[str, Stage],
    trimmed: tuple[str, Stage],
    heads: dict[str, Stage],
    moved: Stage | None,
    owner: str,
) -> Stage:
    places = (
        ("--corpus", "{0}", corpus),
        ("--untrimmed", untrimmed[0].replace("0", "1"), untrimmed[1]),
        ("--trimmed", trimmed[0].replace("0", "2"), trimmed[1]),
        ("--gtad", "{3}", heads["gtad"]),
        ("--anchor-free", "{4}", heads["anchor_free"]),
        ("--proposals", "{5}", heads["bmn"]),
        *([("--equivariance", "{6}", moved)] if moved else []),
    )
    return Stage(
        name="measures",
        owner=owner,
        words=(
            *("{python}", "-m", "benchmarks.evidence.measures", "--out", "{out}"),
            *(word for option, place, _ in places for word in (option, place)),
        ),
        inputs=tuple(stage for _, _, stage in places),
        files=tuple(sorted((_HERE / "measures").glob("*.py"))),
    )


def _versioned(
    kind: str,
    name: str,
    owner: str,
    words: tuple[str, ...],
    inputs: tuple[Stage, ...],
    files: tuple[Path, ...] = (),
) -> Stage:
    """Return a stage that runs the project's own commands, and so depends on their version."""
    identity = f"{kind} {VERSIONS[kind]}"
    return Stage(name=name, owner=owner, words=words, inputs=inputs, files=files, identity=identity)
