"""Encoders for other code: a folder for model hubs, and a backbone for OpenTAD."""
