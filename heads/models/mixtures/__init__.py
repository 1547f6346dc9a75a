"""Mixture designs: what makes task-specific streams of one modality's features. One per file; all have the interface of `base`."""
