"""Shard sets that point at tars of other tools."""
