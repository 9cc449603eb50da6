"""Saving and resuming: what all ranks agree on, the optimizer's state, the upload in the background."""
