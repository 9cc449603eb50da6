"""Downstream networks with their targets and losses, one file a method."""
