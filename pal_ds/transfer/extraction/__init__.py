"""Features of untrimmed videos from a frozen backbone."""
