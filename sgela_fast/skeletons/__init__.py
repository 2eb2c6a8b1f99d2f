"""Skeleton recordings: joint layouts, file formats, archives, windows, quality checks, the synthetic walker.

Knows nothing of models.
"""
