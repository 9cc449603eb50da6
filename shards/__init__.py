"""pal-shard: turns folders, prefixes and CSVs of videos into a shard set (DESIGN.md §3.1, §3.2)."""
