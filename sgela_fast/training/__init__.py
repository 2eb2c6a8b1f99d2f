"""Fit a model to an archive without labels; leaves a run folder."""
