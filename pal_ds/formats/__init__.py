"""What is on disk, each format once: shard set, tar samples, checkpoint, backbone file, features."""
