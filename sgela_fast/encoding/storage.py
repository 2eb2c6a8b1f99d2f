"""How values lie in a store: as float32, float16, the upper half of a float32, or bytes with a scale for each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# NumPy's name and Arrow's for each dtype of a store: NumPy has no bfloat16, so its bits lie in a uint16.
NUMPY: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
}


def pack(values: NDArray[np.float32], dtype: str) -> tuple[Array, NDArray[np.float32] | None]:
    """Round encodings to what is stored.

    Args:
        values: ``(N, ...)``.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``int8``.

    Returns:
        The stored numbers, same shape, and for ``int8`` the scale of each row ``(N,)``: a stored byte times the scale
        is the value, to half the scale.
    """
    if dtype == "bfloat16":
        return _to_bfloat16(values), None
    if dtype != "int8":
        return values.astype(NUMPY[dtype]), None
    flat = values.reshape(len(values), -1)
    largest = np.abs(flat).max(axis=1, initial=0.0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(flat / scales[:, None]).clip(-127, 127).astype(np.int8).reshape(values.shape), scales


def unpack(stored: Array, dtype: str, scales: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The float32 values of stored numbers ``(N, ...)``; ``scales`` ``(N,)`` are needed for ``int8``."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    values = stored.astype(np.float32)
    if dtype == "int8":
        assert scales is not None
        values *= scales.reshape(-1, *[1] * (values.ndim - 1))
    return values


def _to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest, ties to even; what is no number stays none."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)
