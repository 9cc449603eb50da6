"""Layers and numeric rules that networks share."""
