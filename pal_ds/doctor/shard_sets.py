"""What the doctor looks at where a run draws from several shard sets, or from a part of one."""

from __future__ import annotations

import dataclasses

from pal_ds import storage
from pal_ds.data.sources import (
    OpenSource,
    common_labels,
    load_manifests,
    parse_sources,
    train_splits,
)
from pal_ds.doctor import storage as places
from pal_ds.doctor.finding import FAIL, Finding, fail, ok, warn
from pal_ds.formats.clip_selection import select


def shard_sets(text: str) -> list[Finding]:
    """Look at every set of a list as one run would draw from them; conditions are tried on a first shard.

    Args:
        text: ``data.shards`` in YAML.
    """
    try:
        sources = parse_sources(text)
    except ValueError as error:
        return [fail("shards", str(error), "write it as in the run's config: [{url: ..., weight: 2}, ...]")]
    findings = [found for source in sources for found in places.shards(source.url, source.split)]
    if any(finding.state == FAIL for finding in findings):
        return findings
    manifests = load_manifests(sources)
    findings += [
        _tried(source) for source in train_splits(sources, manifests) if not source.config.where.is_everything
    ]
    if common_labels(manifests) is None and any(manifest.labels for manifest in manifests):
        fix = "leave out sets with other labels, or don't train on labels (objective.name, validation.probe_every)"
        findings.append(warn("shard sets", "their labels differ: labels are not used", fix))
    clips = sum(
        manifest.splits[source.split].clips for source, manifest in zip(sources, manifests, strict=True)
    )
    return [*findings, ok("shard sets", f"{len(sources)} sets, {clips} clips; --dry-run tells their shares")]


def _tried(source: OpenSource) -> Finding:
    first = source.split.shards[0]
    alone = dataclasses.replace(source.split, clips=first.clips, bytes=first.bytes, shards=(first,))
    found = select(source.config.url, alone, source.config.where)
    place = storage.redact(source.config.url)
    text = f"{place}: where chooses {found.clips} of {first.clips} clips of {first.name}"
    if found.clips:
        return ok("shard sets", text)
    return warn("shard sets", text, "look at the whole set with pal-shard ls --where")
