"""What goes wrong with a model."""

from __future__ import annotations


class ModelError(ValueError):
    """A folder that holds no usable model, or a head and an encoder that don't fit: one line with the fix."""
