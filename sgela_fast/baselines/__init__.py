"""Re-identification without the paper's encoder: classifiers of hand-made descriptors, and supervised networks."""
