"""From videos to features: decoding threads, clips, batches across videos, files."""
