"""Silhouettes: data sets on disk or rendered from skeletons, packed, cut into clips and drawn in batches."""
