"""The shard sets that a run draws from, opened: manifests, splits, the clips that are used, and the plan."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from pal_ds import storage
from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.config.loading import apply_overrides, build
from pal_ds.config.sources import ShardSource
from pal_ds.data.order.epoch_order import EpochPlan
from pal_ds.data.order.mix_plan import MixPlan
from pal_ds.data.shard_list import ShardList, ShardRun
from pal_ds.formats import shardset
from pal_ds.formats.clip_selection import Selection, select, selection_id
from pal_ds.formats.shardset import Manifest, SplitEntry

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 5.0
#: Selections that this process has made or was given, by their id: a loader is made after the plan.
_known: dict[str, Selection] = {}


@dataclasses.dataclass(frozen=True)
class OpenSource:
    """A split of a shard set, as a run uses it.

    Attributes:
        number: its place in ``data.shards``.
        config: its entry there.
        manifest: of the set.
        name: of the split.
        split: the split, with the chosen clips alone.
        selection: the chosen clips; None for all.
    """

    number: int
    config: ShardSource
    manifest: Manifest
    name: str
    split: SplitEntry
    selection: Selection | None = None


def sources_of(
    shards: str | Sequence[ShardSource], *, split: str | None = None, val_split: str | None = None
) -> tuple[ShardSource, ...]:
    """Return shard sets as entries of ``data.shards``; a URL is one set, of which a split is named.

    Raises:
        ConfigError: a split is named beside entries, which name their own.
    """
    if not isinstance(shards, str):
        named = split if split is not None else val_split
        if named is not None:
            field = "split" if split is not None else "val_split"
            raise ConfigError(
                "split", named, f"has no effect with a list of sets: name the {field} in each ShardSource"
            )
        return tuple(shards)
    return (ShardSource(url=shards, split=split or "train", val_split=val_split),) if shards else ()


def parse_sources(text: str) -> tuple[ShardSource, ...]:
    """Return what ``data.shards`` means as a word of a command line: a URL, or a list of sets in YAML.

    Raises:
        ConfigError: the list can't be understood.
    """
    if not text.lstrip().startswith("["):
        return (ShardSource(url=text),)
    return build(DataConfig, apply_overrides({}, [f"shards={text}"]), "data.").sources


def load_manifests(sources: Sequence[ShardSource]) -> tuple[Manifest, ...]:
    """Read the manifests of all sets.

    Raises:
        ConfigError: no set is given.
        ShardSetError: no shard set there.
        StorageError: a manifest can't be read.
    """
    if not sources:
        raise ConfigError("data.shards", "", "give the URL of a shard set made by pal-shard build")
    # A set that is named twice is read once, so that both entries mean one generation of it.
    found = {url: shardset.load_manifest(url) for url in dict.fromkeys(source.url for source in sources)}
    return tuple(found[source.url] for source in sources)


def train_splits(sources: Sequence[ShardSource], manifests: Sequence[Manifest]) -> list[OpenSource]:
    """Return the training split of every set, whole.

    Raises:
        ShardSetError: a set has no such split.
    """
    return [
        _opened(number, source, manifest, source.split)
        for number, (source, manifest) in enumerate(zip(sources, manifests, strict=True))
    ]


def val_splits(sources: Sequence[ShardSource], manifests: Sequence[Manifest]) -> list[OpenSource]:
    """Return the validation splits, whole, of the sets that have one: ``val``, or what ``val_split`` names.

    Raises:
        ShardSetError: a set has no split of the name that is given.
    """
    found = []
    for number, (source, manifest) in enumerate(zip(sources, manifests, strict=True)):
        name = "val" if source.val_split is None else source.val_split
        if name and (source.val_split is not None or name in manifest.splits):
            found.append(_opened(number, source, manifest, name))
    return found


def narrowed(found: Iterable[OpenSource]) -> list[OpenSource]:
    """Return splits with the clips alone that their ``where`` chooses; reads indexes unless that is known already.

    Raises:
        ConfigError: conditions choose no clip of a training split.
        ShardSetError: an index can't be understood.
        StorageError: something can't be read.
    """
    return [_narrowed(each, remember(each, lambda each=each: select_clips(each))) for each in found]  # type: ignore[misc]


def remember(source: OpenSource, make: Callable[[], Selection]) -> Selection | None:
    """Return the selection of a split, made only where this process has not seen it; None where all is used."""
    if source.config.where.is_everything:
        return None
    name = selection_name(source)
    if name not in _known:
        _known[name] = make()
    return _known[name]


def source_name(source: OpenSource) -> str:
    """Return what messages call a split: its set, and its name where that is no usual one."""
    place = storage.redact(source.config.url)
    return place if source.name in ("train", "val") else f"{place} ({source.name})"


def selection_name(source: OpenSource) -> str:
    """Return what a split's selection is called: it follows from the set, the split and the conditions."""
    return selection_id(source.manifest.digest, source.name, source.config.where)


def plan_of(data: DataConfig, sources: Sequence[OpenSource]) -> EpochPlan:
    """Plan the epochs of a run over its training splits, as :func:`narrowed` returned them.

    Raises:
        ConfigError: the batch does not fit, or a set is too small for its weight.
    """
    geometry = {
        "global_batch": data.global_batch,
        "group_size": data.group_size,
        "lanes_per_group": data.lanes,
        "slice_bytes": data.slice_bytes,
        "window_slices": data.window_slices,
        "block_clips": data.block_clips,
    }
    splits = [source.split for source in sources]
    if len(splits) == 1 and not data.epoch_clips:
        return EpochPlan.from_manifest(splits[0], **geometry)
    weights = [source.config.weight for source in sources]
    return MixPlan.from_splits(
        splits,
        weights=None if None in weights else [float(weight or 0) for weight in weights],
        by_group=data.mix == "by_group",
        epoch_clips=data.epoch_clips,
        **geometry,
    )


def shard_list(sources: Sequence[OpenSource]) -> ShardList:
    """Return the shards of all splits, in the order in which a plan counts them."""
    return ShardList(
        tuple(
            ShardRun(source.config.url, tuple(shard.name for shard in source.split.shards), source.selection)
            for source in sources
        )
    )


def joined_split(sources: Sequence[OpenSource]) -> SplitEntry:
    """Return several splits as one, shard after shard: what a validation pass goes through."""
    splits = [source.split for source in sources]
    return SplitEntry(
        clips=sum(split.clips for split in splits),
        frames=sum(split.frames for split in splits),
        seconds=sum(split.seconds for split in splits),
        bytes=sum(split.bytes for split in splits),
        shards=tuple(shard for split in splits for shard in split.shards),
    )


def common_labels(manifests: Sequence[Manifest]) -> tuple[str, ...] | None:
    """Return the class names that all sets agree on; None where they differ or a set has none."""
    first = manifests[0].labels
    return first if all(manifest.labels == first for manifest in manifests) else None


def _opened(number: int, source: ShardSource, manifest: Manifest, name: str) -> OpenSource:
    if name not in manifest.splits:
        raise shardset.ShardSetError(
            f"{storage.redact(source.url)}: no split {name!r}; it has {', '.join(sorted(manifest.splits))}"
        )
    return OpenSource(number, source, manifest, name, manifest.splits[name])


def _narrowed(source: OpenSource, selection: Selection | None) -> OpenSource:
    if selection is None:
        return source
    if selection.clips == 0 and source.name == source.config.split:
        raise ConfigError(
            f"data.shards[{source.number}].where",
            storage.redact(source.config.url),
            f"chooses none of the {source.split.clips} clips of split {source.name!r}; loosen a condition",
        )
    return dataclasses.replace(source, split=selection.part_of(source.split), selection=selection)


def select_clips(source: OpenSource) -> Selection:
    """Choose the clips of a split, and tell how far it is every few seconds."""
    begun = told = time.monotonic()
    place = f"{storage.redact(source.config.url)}, split {source.name}"

    def progress(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _PROGRESS_SECONDS:
            told = now
            log.info(
                "%s: choosing clips, %d of %d shards, about %.0f s left",
                place,
                done,
                total,
                (now - begun) * (total - done) / done,
            )

    found = select(source.config.url, source.split, source.config.where, progress=progress)
    log.info(
        "%s: where chooses %d of %d clips (%.1f s)",
        place,
        found.clips,
        source.split.clips,
        time.monotonic() - begun,
    )
    return found
