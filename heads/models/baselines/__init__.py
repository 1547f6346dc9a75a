"""Published baselines, one per file, on the same cached features."""
