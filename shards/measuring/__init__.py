"""What the catalog has to look into videos for, before the plan: where to cut them, and which are alike."""
