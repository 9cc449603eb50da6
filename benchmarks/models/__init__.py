"""What the models cost and whether every pre-training config trains: figures behind README.md in this folder."""
