"""Rank and world size under any launcher, collectives, preemption and the watchdog."""
