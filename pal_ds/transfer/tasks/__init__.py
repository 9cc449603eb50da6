"""Downstream tasks: what is trained on which windows, and how predictions are read and scored."""
