"""Measurements that stand beside the library: ratios against limits, and corpora made to measure learning."""
