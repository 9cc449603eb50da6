"""Encoders of ``transformers`` behind the interface of the other backbones (docs/encoders.md)."""
