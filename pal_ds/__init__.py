"""pal-ds: self-supervised video pre-training for temporal action localization (PAL, CVPR 2022)."""

__version__ = "0.1.0"
