"""Readers of localization benchmarks as distributed: ActivityNet v1.3, THUMOS'14, Charades-STA; no torch."""
