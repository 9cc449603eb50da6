"""The build: planned shards, executors, journal, resume, finish."""
