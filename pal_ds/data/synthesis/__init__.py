"""Synthetic videos: what is drawn, how a group is built, how it is rendered on the device."""
