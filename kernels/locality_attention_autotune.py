"""Choice between configurations by timing them, for who asks for it.

With ``SGELA_FAST_AUTOTUNE=1`` in the environment the first call of a kind (kernel, dtype, sizes rounded up to powers of
two, options) times the few configurations that hold the problem and keeps the fastest for the rest of the process.
Without it, and while a CUDA graph is captured, the heuristic choice is taken. Two configurations add in another order,
so results are equal bit for bit within a process, but not between two that chose differently.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from triton.testing import do_bench

ENVIRONMENT = "SGELA_FAST_AUTOTUNE"
Choice = TypeVar("Choice")

_FASTEST: dict[Hashable, Any] = {}


def enabled() -> bool:
    """Whether the environment asks for timing."""
    return os.environ.get(ENVIRONMENT, "0") == "1"


def bucket(size: int) -> int:
    """The next power of two: sizes that share it share a choice."""
    return 1 << max(size - 1, 0).bit_length()


def milliseconds(run: Callable[[], None]) -> float:
    """Median time of a launch on the current CUDA device."""
    return float(do_bench(run, warmup=5, rep=20, return_mode="median"))


def fastest(
    candidates: Sequence[Choice],
    run: Callable[[Choice], None],
    kind: Hashable,
    measure: Callable[[Callable[[], None]], float] = milliseconds,
) -> Choice:
    """The candidate whose run takes least time, measured once for each kind; the first one where nothing is timed.

    Args:
        candidates: configurations, the heuristic choice first.
        run: launches one of them. It is called many times, so it must only overwrite its outputs.
        kind: what the choice may depend on.
        measure: time of a call.
    """
    if len(candidates) == 1 or not enabled():
        return candidates[0]
    if kind not in _FASTEST:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return candidates[0]
        times = [measure(lambda candidate=candidate: run(candidate)) for candidate in candidates]  # type: ignore[misc]
        _FASTEST[kind] = candidates[times.index(min(times))]
    choice: Choice = _FASTEST[kind]
    return choice
