"""The importable fused ops, one file each."""
