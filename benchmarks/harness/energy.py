"""Energy of a call, where the machine counts it: RAPL through Linux's powercap files, NVML on an NVIDIA GPU.

Both counters see a whole package or board, idle share and other processes included: figures are those of a machine that
does nothing else. Where there is no counter, results say so and hold no figure; nothing is estimated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sgela_fast.benchmarks.harness.suite import Job
from sgela_fast.benchmarks.harness.timing import synchronize

POWERCAP = Path("/sys/class/powercap")
# RAPL counts in steps of a millisecond, NVML of some 20 to 100 ms.
LEAST_SECONDS = 1.0


class Counter(Protocol):
    """Something that counts joules.

    Attributes:
        name: what it sees, for the reader.
    """

    name: str

    def start(self) -> None:
        """Begin to count."""

    def joules(self) -> float:
        """Joules since the start."""


class NoCounter(Exception):
    """The machine has no counter that can be read; the message says why."""


@dataclass
class _Zone:
    energy: Path
    wraps_at: int  # microjoules
    started: int = 0

    def read(self) -> int:
        return int(self.energy.read_text())


class PowercapCounter:
    """All RAPL packages, and the memory controllers beside them where they are counted.

    Args:
        root: the powercap tree.

    Raises:
        NoCounter: there is none, or it is for the administrator alone.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        zones = []
        for folder in sorted(root.glob("*-rapl:*")):
            try:
                kind = (folder / "name").read_text().strip()
                # Cores and graphics are parts of their package, and `psys` holds everything once more.
                if kind.startswith("package") or kind == "dram":
                    zone = _Zone(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
                    zone.read()
                    zones.append((kind, zone))
            except PermissionError:
                raise NoCounter(f"{folder / 'energy_uj'} is for the administrator alone") from None
            except (OSError, ValueError):
                continue
        if not zones:
            raise NoCounter(f"there is no RAPL counter in {root}")
        self.zones = [zone for _, zone in zones]
        self.name = f"RAPL ({', '.join(kind for kind, _ in zones)})"

    def start(self) -> None:
        """Begin to count."""
        for zone in self.zones:
            zone.started = zone.read()

    def joules(self) -> float:
        """Joules since the start, all zones together. A counter that ran over once in between is followed."""
        return sum((zone.read() - zone.started) % (zone.wraps_at + 1) for zone in self.zones) * 1e-6


class NvmlCounter:
    """The board that torch's current CUDA device is on.

    Raises:
        NoCounter: NVML's Python package is missing, or the board does not count.
    """

    name = "NVML (board)"

    def __init__(self) -> None:
        import torch

        try:
            import pynvml
        except ImportError:
            raise NoCounter("the Python package of NVML, nvidia-ml-py, is not installed") from None
        try:
            pynvml.nvmlInit()
            found = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{found}")
            self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption
            self._read(self._handle)
        except pynvml.NVMLError as error:
            raise NoCounter(f"NVML: {error}") from None
        self._started = 0

    def start(self) -> None:
        """Begin to count."""
        self._started = self._read(self._handle)

    def joules(self) -> float:
        """Joules since the start."""
        return float(self._read(self._handle) - self._started) * 1e-3


def find_counter(device: str) -> Counter:
    """The counter of ``device``.

    Raises:
        NoCounter: there is none.
    """
    return NvmlCounter() if device == "cuda" else PowercapCounter()


def joules_per_call(job: Job, counter: Counter, device: str, seconds: float = LEAST_SECONDS) -> float:
    """Joules of one call: of as many as fit into ``seconds``, at least one, divided by their number."""
    calls = 0
    synchronize(device)
    counter.start()
    began = time.perf_counter()
    while calls == 0 or time.perf_counter() - began < seconds:
        job()
        calls += 1
        if device == "cuda" and calls % 100 == 0:  # else launches pile up long after the time is over
            synchronize(device)
    synchronize(device)
    return counter.joules() / calls


def describe(counter: Counter | None, reason: str | None) -> dict[str, Any]:
    """For the results file."""
    return {"counter": counter.name if counter else None, "reason": reason}
