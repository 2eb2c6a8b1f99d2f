"""Weights on disk: our run folders (safetensors) and the official TensorFlow 1 checkpoints."""
