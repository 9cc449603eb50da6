"""Loaders over a tiny set, and their global batches as hashes."""

import hashlib
import warnings

from pal_ds.config.data import DataConfig
from pal_ds.config.synthesis import AugmentConfig, SynthesisConfig
from pal_ds.data.loader import GroupLoader

SYNTHESIS = SynthesisConfig(size=24)
AUGMENT = AugmentConfig()
#: 53 clips, 12 a step: 4 steps an epoch, 2 lanes a position, 5 clips dropped.
GEOMETRY = {"global_batch": 12, "group_size": 3, "slice_bytes": 40_000, "window_slices": 2}


def loader_of(url, *, rank=0, world_size=1, seed=5, synthesis=SYNTHESIS, retry=None, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = DataConfig(shards=url, **{**GEOMETRY, "workers": 0, **settings})
        return GroupLoader(
            url,
            data=data,
            synthesis=synthesis,
            augment=AUGMENT,
            seed=seed,
            rank=rank,
            world_size=world_size,
            retry=retry,
        )


def group_print(group):
    """Everything a consumer can see of a group, as one hash."""
    seen = hashlib.sha256(repr((group.keys, group.epoch, group.step, group.number, group.info)).encode())
    for array in (group.sources, group.flip, group.blur):
        seen.update(array.tobytes())
    for tensor in (group.pixels, group.colour, group.contrast, group.region, group.beta, group.pairs):
        seen.update(tensor.numpy().tobytes())
    seen.update(group.digest)
    return seen.hexdigest()


def global_batches(url, steps, *, start=0, world_size=1, on_close=None, **settings):
    """Return the steps' global batches as [step][micro-step][group], put together from all ranks in order.

    ``on_close`` is shown every rank's loader when it has given its last batch.
    """
    batches = [[[] for _ in range(settings.get("accumulation", 1))] for _ in range(steps)]
    for rank in range(world_size):
        loader = loader_of(url, rank=rank, world_size=world_size, **settings)
        loader.load_state_dict({"step": start})
        for number in range(steps):
            for micro_step, groups in enumerate(batches[number]):
                micro = next(loader)
                assert (micro.step, micro.micro_step) == (start + number, micro_step)
                groups.extend(group_print(group) for group in micro.groups)
            assert loader.state_dict() == {"step": start + number + 1}
        if on_close is not None:
            on_close(loader)
        loader.close()
    return batches
