"""Results on disk: one JSON file per run, from which tables and plots are made.

A file holds ``environment``, ``limits``, ``energy`` (the counter, or why there is none), ``settings`` and ``records``,
one for each case and provider. A record's
``status`` is ``measured`` (``seconds`` holds the quantiles), ``refused`` (a wrong answer) or ``unavailable``; the last
two have a ``reason`` and no time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sgela_fast.benchmarks.harness.limits import Bound
from sgela_fast.benchmarks.harness.suite import Case, Provider
from sgela_fast.benchmarks.harness.timing import Quantiles
from sgela_fast.errors import DataError

FORMAT = 1


@dataclass
class Record:
    """One provider at one case.

    Attributes:
        case: what was computed.
        provider: by whom.
        bound: the machine's limit for the case.
        status: ``measured``, ``refused`` or ``unavailable``.
        reason: why there is no time.
        deviations: of the outputs from the float64 answer, relative to its largest entry.
        first_call_seconds: the call that was verified; it compiles where something compiles.
        rounds: samples taken.
        calls: calls in each of them.
        clock: what ``seconds`` were taken by: ``cpu``, ``wall`` or ``device``.
        seconds: per call.
        wall_seconds: by the wall clock, or on CUDA the device's.
        cpu_seconds: CPU time of the process. Where it is well below ``wall_seconds`` the core was shared.
        ratio_to_subject: time over that of the suite's subject in the same round.
        peak_bytes: peak memory of one call beyond its inputs.
        peak_reason: why that is missing though it was asked for.
        joules: energy of one call, where the machine counts it.
        details: what else the job had to tell of its last call, such as its stages.
    """

    case: Case
    provider: Provider
    bound: Bound
    status: str = "unavailable"
    reason: str | None = None
    deviations: Mapping[str, float] | None = None
    first_call_seconds: float | None = None
    rounds: int = 0
    calls: int = 0
    clock: str | None = None
    seconds: Quantiles | None = None
    wall_seconds: Quantiles | None = None
    cpu_seconds: Quantiles | None = None
    ratio_to_subject: Quantiles | None = None
    peak_bytes: int | None = None
    peak_reason: str | None = None
    joules: float | None = None
    details: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """For the results file; figures that need arithmetic are included, for readers without this code."""
        case = {
            "name": self.case.name,
            "group": self.case.group,
            "axes": dict(self.case.axes),
            "items": self.case.items,
            "dtype": self.case.dtype,
            "device": self.case.device,
            "flop": self.case.cost.flop,
            "bytes": self.case.cost.bytes,
        }
        median = self.seconds.median if self.seconds else None
        cost = self.case.cost_of(self.provider)
        return {
            "case": case,
            "provider": self.provider.name,
            "note": self.provider.note,
            "precision": self.case.precision_of(self.provider),
            "flop": cost.flop,
            "bytes": cost.bytes,
            "compiles": self.provider.compiles,
            "status": self.status,
            "reason": self.reason,
            "deviations": None if self.deviations is None else dict(self.deviations),
            "first_call_seconds": self.first_call_seconds,
            "rounds": self.rounds,
            "calls_per_sample": self.calls,
            "clock": self.clock,
            "seconds": _as_json(self.seconds),
            "wall_seconds": _as_json(self.wall_seconds),
            "cpu_seconds": _as_json(self.cpu_seconds),
            "ratio_to_subject": _as_json(self.ratio_to_subject),
            "items_per_second": self.case.items / median if median else None,
            "bound": asdict(self.bound),
            "fraction_of_bound": self.bound.seconds / median if median else None,
            "peak_bytes": self.peak_bytes,
            "peak_reason": self.peak_reason,
            "joules": self.joules,
            "joules_per_million": None if self.joules is None else 1e6 * self.joules / self.case.items,
            "details": None if self.details is None else dict(self.details),
        }


def _as_json(found: Quantiles | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)


def read(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        DataError: it is missing or of another kind.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; name a results file") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or "records" not in content:
        raise DataError(f"{path} holds no benchmark results of format {FORMAT}; run the benchmark again")
    return content
