"""The examples in the helps of ``pal-shard`` and its commands."""

from __future__ import annotations

from pal_ds.command_line.parser import Example

TOP = (
    Example("a folder of videos, one split 'train'", "pal-shard build videos/ shards/"),
    Example(
        "a CSV of Kinetics with its classes, to S3",
        "pal-shard build k400_train.csv s3://bucket/k400 --video-root s3://bucket/videos --with-labels",
    ),
    Example("read all of it again", "pal-shard verify shards/ --decode"),
)

COMMANDS: dict[str, tuple[Example, ...]] = {
    "build": (
        Example(
            "hold out a tenth, by whole source videos",
            "pal-shard build videos/ s3://bucket/set --val-fraction 0.1",
        ),
        Example(
            "films: cut them at their shots, leave out stills and near duplicates",
            "pal-shard build films/ shards/ --shots --chunk 10 "
            "--min-seconds 2 --min-motion 0.1 --dedupe near",
        ),
        Example(
            "eight machines, then 'pal-shard finish shards/'",
            "pal-shard build videos/ shards/ --num-tasks 8 --task-index $SLURM_ARRAY_TASK_ID",
        ),
    ),
    "reshard": (
        Example(
            "deal the same clips anew, bytes unchanged",
            "pal-shard reshard shards/ smaller/ --shard-bytes 32MiB",
        ),
        Example("another split of them", "pal-shard reshard shards/ split/ --val-fraction 0.05 --seed 1"),
    ),
    "retry": (
        Example("give slow videos more time", "pal-shard retry videos/ shards/ --timeout 1800"),
        Example("only the rejects of one stage", "pal-shard retry videos/ shards/ --only transcode"),
    ),
    "adopt": (
        Example(
            "hold out a fiftieth of the tars",
            "pal-shard adopt s3://old/kinetics/ s3://bucket/set --val-fraction 0.02",
        ),
        Example(
            "a range of tars with labels in their JSON",
            "pal-shard adopt 's3://old/{00000..00099}.tar' s3://bucket/set --label-member json:label",
        ),
        Example(
            "videos in a folder of the tar", "pal-shard adopt tars/ set/ --video-member '{key}/video.mp4'"
        ),
    ),
    "append": (
        Example("a new folder", "pal-shard append more/ shards/"),
        Example(
            "what would be added",
            "pal-shard append more.csv s3://bucket/set --video-root s3://bucket/videos --dry-run",
        ),
    ),
    "remove": (
        Example(
            "at once, no tar is moved; 'compact' moves them when there is time",
            "pal-shard remove s3://bucket/set --keys takedown.txt --now",
        ),
        Example("the bytes too, in one", "pal-shard remove s3://bucket/set --keys takedown.txt --purge"),
    ),
    "compact": (
        Example("after 'remove --now'", "pal-shard compact s3://bucket/set"),
        Example("sixteen shards at a time", "pal-shard compact s3://bucket/set --workers 16"),
    ),
    "finish": (
        Example("after all tasks of 'build --num-tasks'", "pal-shard finish s3://bucket/set"),
        Example("for a script", "pal-shard finish s3://bucket/set --json --quiet"),
    ),
    "clean": (
        Example("uploads and scratch of interrupted builds", "pal-shard clean s3://bucket/set"),
        Example("the whole unfinished build", "pal-shard clean s3://bucket/set --unfinished"),
    ),
    "verify": (
        Example("bytes and indexes", "pal-shard verify s3://bucket/set"),
        Example(
            "every clip decoded, 32 shards at a time",
            "pal-shard verify s3://bucket/set --decode --workers 32",
        ),
    ),
    "stats": (
        Example("a table", "pal-shard stats shards/"),
        Example("for a script", "pal-shard stats s3://bucket/set --json"),
    ),
    "ls": (
        Example("the samples of a shard", "pal-shard ls shards/ --shard train-000000.tar"),
        Example(
            "what a run with these conditions would use",
            "pal-shard ls shards/ --where 'min_seconds: 4, min_side: 112'",
        ),
    ),
    "preview": (
        Example("a page", "pal-shard preview shards/ --out sheet.html"),
        Example(
            "a picture of 60 clips", "pal-shard preview s3://bucket/set --out sheet.png --clips 60 --seed 1"
        ),
    ),
}
