"""Readers of localization benchmarks as distributed; which there are is in ``pal_ds.config.datasets``; no torch."""
