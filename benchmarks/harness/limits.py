"""What the machine can do at most, measured on the spot: copy bandwidth and the rate of matrix products."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sgela_fast.benchmarks.harness.suite import Cost, Job
from sgela_fast.benchmarks.harness.timing import cpu_duration, duration, synchronize

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# Where the system does not tell.
_TYPICAL_CACHES = {"L2": 512 * 2**10, "L3": 16 * 2**20}
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "": 1}
# A limit is what the machine does undisturbed: the fastest of up to so many tries within so many seconds.
TRIES, TRY_SECONDS = 25, 1.5


@dataclass(frozen=True)
class Level:
    """Copy bandwidth at one level of memory.

    Attributes:
        name: ``L2``, ``L3`` or ``DRAM``.
        capacity: the largest working set held against it, bytes; ``None`` for no bound.
        copied: size of the source that was copied, bytes.
        bytes_per_second: read and written bytes together, of the fastest of several copies.
    """

    name: str
    capacity: int | None
    copied: int
    bytes_per_second: float


@dataclass(frozen=True)
class Bound:
    """The shortest time that the machine allows for a cost, and which limit sets it: ``memory`` or ``compute``."""

    seconds: float
    kind: str


@dataclass(frozen=True)
class Limits:
    """Measured limits of one device.

    Attributes:
        levels: from the smallest to the largest.
        flop_per_second: rate of large matrix products by dtype.
    """

    levels: tuple[Level, ...]
    flop_per_second: dict[str, float]

    def bound(self, cost: Cost, dtype: str) -> Bound:
        """The larger of the two bounds: moving the bytes, and the products at the best rate.

        The bytes are held against the fastest level that holds them all. Products of narrow dtypes may be computed in
        float32, so the faster of the two rates counts.
        """
        level = next(level for level in self.levels if level.capacity is None or cost.bytes <= level.capacity)
        memory = cost.bytes / level.bytes_per_second
        compute = cost.flop / max(
            self.flop_per_second[name] for name in {"float32", dtype} & self.flop_per_second.keys()
        )
        return Bound(compute, "compute") if compute > memory else Bound(memory, "memory")

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {"copy": [asdict(level) for level in self.levels], "flop_per_second": self.flop_per_second}


def measure_limits(device: str, dtypes: Iterable[str], *, quick: bool = False) -> Limits:
    """Measure the limits that cases are held against.

    Args:
        device: ``cpu`` (with the threads set) or ``cuda``.
        dtypes: whose rates of products are wanted, beside float32's; ``int8`` among them.
        quick: smaller buffers and products, for smoke tests: too low on any device.
    """
    levels = _cuda_levels(quick) if device == "cuda" else _cpu_levels(quick)
    size = 256 if quick else 8192 if device == "cuda" else 1024
    rates = {}
    for dtype in sorted({"float32", *dtypes}):
        try:
            rates[dtype] = int8_rate(device, size) if dtype == "int8" else matmul_rate(device, dtype, size)
        except (RuntimeError, AttributeError):  # no such product here: float32's rate counts
            continue
    return Limits(tuple(levels), rates)


def copy_bandwidth(device: str, size: int) -> float:
    """Bytes read and written per second when ``size`` bytes are copied; the fastest of several."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    # Small copies are repeated within one measurement: a call costs a microsecond itself.
    copies = max(1, 2**25 // size) if device == "cpu" else 20

    def copy() -> dict[str, torch.Tensor]:
        for _ in range(copies):
            target.copy_(source)
        return {}

    copy()
    return 2 * copies * source.numel() * 4 / _fastest(copy, device)


def matmul_rate(device: str, dtype: str, size: int) -> float:
    """Operations per second of a square product of ``size`` in ``dtype``; the fastest of several."""
    left, right = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
    products = 1 if device == "cpu" else 5

    def multiply() -> dict[str, torch.Tensor]:
        for _ in range(products):
            torch.mm(left, right, out=result)
        return {}

    result = torch.empty_like(left)
    multiply()
    synchronize(device)
    return 2 * products * size**3 / _fastest(multiply, device)


def int8_rate(device: str, size: int) -> float:
    """Operations per second of a square product of int8 factors with int32 sums, by the faster of torch's two ways."""
    left, right = (torch.randint(-127, 128, (size, size), dtype=torch.int8, device=device) for _ in range(2))
    ways: list[Job] = []

    def plain() -> dict[str, torch.Tensor]:
        torch._int_mm(left, right)
        return {}

    ways.append(plain)
    if device == "cpu":
        activations = torch.randn(size, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these tensors are deprecated; the product has no other door yet
            weight = torch.quantize_per_tensor(activations, 0.05, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(weight, None)

        def quantized() -> dict[str, torch.Tensor]:
            torch.ops.quantized.linear_dynamic(activations, packed, True)
            return {}

        ways.append(quantized)
    for job in ways:
        job()
    synchronize(device)
    return 2 * size**3 / min(_fastest(job, device) for job in ways)


def _fastest(job: Job, device: str) -> float:
    # One thread's CPU time is the same on a core that others use as well.
    by_cpu_time = device == "cpu" and torch.get_num_threads() == 1
    tries: list[float] = []
    while len(tries) < TRIES and sum(tries) < TRY_SECONDS:
        tries.append(cpu_duration(job) if by_cpu_time else duration(job, device))
    return min(tries)


def _cpu_levels(quick: bool) -> list[Level]:
    caches = cache_sizes()
    copied = {name: size // 4 for name, size in caches.items()}  # source and target fill half of the cache
    dram = 4 * max(caches.values()) if not quick else max(caches.values()) // 2
    levels = [Level(name, caches[name], copied[name], copy_bandwidth("cpu", copied[name])) for name in caches]
    return [*levels, Level("DRAM", None, dram, copy_bandwidth("cpu", dram))]


def _cuda_levels(quick: bool) -> list[Level]:
    # The timed calls find an L2 cache full of something else, so memory alone is a bound.
    size = 2**24 if quick else 2**31
    return [Level("DRAM", None, size, copy_bandwidth("cuda", size))]


def cache_sizes() -> dict[str, int]:
    """Bytes of the L2 and L3 cache that the first core sees."""
    found: dict[str, int] = {}
    for folder in sorted(_CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        parsed = re.fullmatch(r"(\d+)([KMG]?)", size)
        if level in "23" and kind == "Unified" and parsed:
            found[f"L{level}"] = int(parsed[1]) * _UNITS[parsed[2]]
    return found or _TYPICAL_CACHES
