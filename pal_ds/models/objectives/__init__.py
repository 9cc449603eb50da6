"""Pre-training objectives, one file a method."""
