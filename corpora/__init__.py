"""Corpora that anyone can make: rendered motion capture with exact labels, and real footage."""
