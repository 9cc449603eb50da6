"""What ``pal-shard build`` is told, checked, and the recipe that follows from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from pal_ds import storage

from ..catalog.gather import Catalog, CatalogOptions
from ..encoding.profiles import Profile
from ..encoding.transcode import ClipLimits
from ..errors import UsageError
from ..measuring.cuts import CutOptions
from .measured import measured_recipe
from .shard_plan import PlanOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Everything ``pal-shard build`` is told.

    Attributes:
        dest: folder URL of the shard set.
        catalog: what the inputs are.
        plan: how they are dealt to shards.
        profile: how they are encoded.
        limits: what is still a clip.
        workers: ffmpeg processes at a time.
        executor: ``local`` or ``ray``.
        tasks: number of tasks that share the work.
        task: this task's index, None where one run does all and finishes the set.
        dedupe_content: reject sources of equal bytes too.
        dedupe_near: reject clips that show the same too, whatever their encoding.
        cut: how whole videos are cut into clips.
        overwrite: remove what shard set lies at DEST first.
        dry_run: only plan.
        quiet: say nothing on the way.
        scratch: where the scratch folder is made, None for TMPDIR.
    """

    dest: str
    catalog: CatalogOptions
    plan: PlanOptions
    profile: Profile
    limits: ClipLimits
    workers: int
    executor: str = "local"
    tasks: int = 1
    task: int | None = None
    dedupe_content: bool = False
    dedupe_near: bool = False
    cut: CutOptions = dataclasses.field(default_factory=CutOptions)
    overwrite: bool = False
    dry_run: bool = False
    quiet: bool = False
    scratch: str | None = None

    @property
    def measures(self) -> bool:
        """Whether videos are looked into before the plan, and what is found kept at DEST."""
        return self.cut.wanted or self.dedupe_near

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: give at least 1")
        if self.task is not None and not 0 <= self.task < self.tasks:
            raise UsageError(
                f"--task-index {self.task}: give an index from 0 to {self.tasks - 1} (--num-tasks)"
            )
        dest = storage.resolved(self.dest)
        for source in self.catalog.sources:
            if storage.resolved(source) == dest:
                raise UsageError(f"SOURCE and DEST are the same folder: {storage.redact(source)}")


def recipe_of(options: BuildOptions, catalog: Catalog, encoder: dict[str, str]) -> dict[str, Any]:
    """Return everything that decides the bytes of the set, but for the inputs."""
    dealing = options.plan
    dedupe = "content" if options.dedupe_content else "near" if options.dedupe_near else "identity"
    filters = options.limits.filters.recipe()
    return {
        **options.profile.recipe(),
        "shard_bytes": dealing.shard_bytes,
        "seed": dealing.seed,
        "split": dealing.split,
        "split_column": dealing.split_column,
        "val_fraction": dealing.val_fraction,
        "limit": dealing.limit,
        "with_labels": options.catalog.with_labels,
        # Named only where chosen, so that sets built before the option existed keep their recipe.
        **({"keep_recordings": True} if options.catalog.keep_recordings else {}),
        **({"keep_labels": True} if options.catalog.keep_labels else {}),
        **({"filters": filters} if filters else {}),
        **measured_recipe(catalog, options.cut, near=options.dedupe_near),
        "dedupe": dedupe,
        "max_seconds": options.limits.max_seconds,
        "min_frames": options.limits.min_frames,
        "encoder": encoder,
    }
