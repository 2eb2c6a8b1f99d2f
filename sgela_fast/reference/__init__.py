"""The readable truth in plain PyTorch, one file per op or model, that every fused path is tested against.

Imports nothing from the rest of the package, runs in float64 and has no branches on the device.
"""
