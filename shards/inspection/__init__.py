"""What a finished set is asked: verify, stats, ls, preview."""
