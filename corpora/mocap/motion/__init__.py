"""Recorded motions, and how they are strung together along a video."""
