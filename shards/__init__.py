"""pal-shard: turns folders, prefixes and CSVs of videos into a shard set (docs/sharding.md)."""
