"""The clips that ``where`` chooses, found by one rank and known to all; kept in the run's folder."""

from __future__ import annotations

import concurrent.futures
import functools
import json

from pal_ds import storage
from pal_ds.config import Config
from pal_ds.data.sources import OpenSource, remember, select_clips, selection_name, train_splits, val_splits
from pal_ds.distributed.ranks import Ranks
from pal_ds.formats.clip_selection import Selection, describe_where, know_conditions
from pal_ds.formats.shardset import Manifest, ShardSetError
from pal_ds.training import startup

FOLDER = "selections"
#: Ranks that wait hear from the first one this often, so that no collective times out over a long search (seconds).
_SIGN_OF_LIFE = 5.0
_WAIT = "wait"


def share_selections(config: Config, ranks: Ranks, manifests: tuple[Manifest, ...]) -> None:
    """Make every rank's process know the clips that conditions choose (collective).

    Rank 0 takes them from the run's folder, or reads the indexes and keeps what it finds there. It alone reads files
    of keys.

    Raises:
        StartError: they can't be found out.
    """
    for split in startup.together(ranks, lambda: _splits(config, manifests)):
        text = _shared(ranks, config.run.dir, split)
        startup.together(ranks, functools.partial(_take, split, text))


def _splits(config: Config, manifests: tuple[Manifest, ...]) -> list[OpenSource]:
    """Return the splits of which only a part is used."""
    sources = config.data.sources
    splits = train_splits(sources, manifests)
    if config.validation.wanted:
        splits += val_splits(sources, manifests)
    return [split for split in splits if not split.config.where.is_everything]


def _take(split: OpenSource, text: str) -> None:
    """Know a selection that :func:`_kept_or_made` returned."""
    described, _, selection = text.partition("\n")
    know_conditions(split.config.where, json.loads(described))
    remember(split, lambda: Selection.from_text(selection))


def _shared(ranks: Ranks, run_dir: str, split: OpenSource) -> str:
    """Return what :func:`_kept_or_made` returns for a split, on every rank."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        work = pool.submit(_kept_or_made, run_dir, split) if ranks.is_first else None
        text = _WAIT
        while text == _WAIT:
            if work is not None:
                done = concurrent.futures.wait([work], timeout=_SIGN_OF_LIFE).done
                text = _WAIT if not done else "" if work.exception() else work.result()
            text = ranks.share(text)

        def result() -> str:
            return work.result() if work is not None else text

        return startup.together(ranks, result)


def _kept_or_made(run_dir: str, split: OpenSource) -> str:
    """Return what the conditions are, a line of JSON, and the selection behind it as text."""
    described = json.dumps(describe_where(split.config.where))
    url = storage.join(run_dir, FOLDER, f"{selection_name(split)}.bin")
    try:
        found = Selection.from_bytes(storage.read_bytes(url, retry=storage.AT_START))
        if found.shard_clips == tuple(shard.clips for shard in split.split.shards):
            return f"{described}\n{found.to_text()}"
    except (storage.StorageNotFoundError, ShardSetError):
        pass
    found = select_clips(split)
    storage.write_bytes(url, found.to_bytes(), retry=storage.AT_START)
    return f"{described}\n{found.to_text()}"
