"""Whether a forward pass keeps what its backward pass reads, or leaves it to be computed again.

A tape costs memory from the forward to the backward pass; without one the backward pass runs the forward pass again, a
third more work. So a tape is kept up to a size, of each call by itself: ``SGELA_FAST_TAPE_MB`` megabytes, read when the
ops are imported, 1024 if it is not set. Exported programs, which are made to encode at any batch size, keep none.
Results are the same bit for bit either way.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from sgela_fast.ops._library import accumulation_dtype


def _limit(setting: str) -> int:
    if not setting.isdecimal():
        raise ValueError(f"SGELA_FAST_TAPE_MB is {setting!r}; give a number of megabytes, 0 to keep no tape")
    return int(setting) << 20


LIMIT_BYTES = _limit(os.environ.get("SGELA_FAST_TAPE_MB", "1024"))


def keeps(elements: Any, dtype: torch.dtype) -> bool:
    """Whether a tape of ``elements`` numbers, for inputs of ``dtype``, is kept."""
    if torch.compiler.is_exporting():  # a limit would bound the program's batch size
        return False
    return bool(elements * accumulation_dtype(dtype).itemsize <= LIMIT_BYTES)
