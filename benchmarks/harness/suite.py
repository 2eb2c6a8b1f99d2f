"""What a benchmark is made of: cases, providers, and the answers that they are held to.

A suite is plain data and functions of modules, so that it can be sent to another process. Nothing in the harness knows
what a suite measures: an op, a model's step or a job from files to files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

# By name. Equal parts in a sequence count as stacked, so that nobody must pay for stacking.
Outputs = Mapping[str, Tensor | Sequence[Tensor]]
# A job may have an attribute `details`, a function without arguments: JSON of what else its last call has to tell.
Job = Callable[[], Outputs]


class Unavailable(Exception):
    """A provider cannot run a case here; the message says why and is shown in place of a time."""


@dataclass(frozen=True)
class Cost:
    """What the algorithm cannot do without in one call, whoever computes it.

    Attributes:
        flop: operations of its matrix products, a multiply-add counted as two. Exponentials and the like are left out.
        bytes: inputs read once and outputs written once.
    """

    flop: float
    bytes: float


@dataclass(frozen=True)
class Case:
    """One size at which all providers are compared.

    Attributes:
        name: unique within the suite, and what two runs are matched by.
        group: heading of the table that the case stands in.
        axes: columns of that table, such as ``{"B": 128, "K": 256}``.
        items: how many units (sequences, windows, frames) one call handles.
        cost: of one call.
        dtype: storage dtype, for the rate of matrix products that the case is held against.
        device: ``cpu`` or ``cuda``.
        clock: ``cpu`` to report the process's CPU time, which another process on the same core does not lengthen; for
            calls that wait for nothing. It counts on the CPU with one thread; else, and by default, the wall clock.
        memory: whether to measure the peak memory too, which takes a process for each provider on the CPU.
        settings: whatever else the suite's own functions need to know.
        costs: costs of providers of another precision, which may read fewer bytes; ``cost`` for all others.
    """

    name: str
    group: str
    axes: Mapping[str, int | str]
    items: int
    cost: Cost
    dtype: str = "float32"
    device: str = "cpu"
    clock: Literal["wall", "cpu"] = "wall"
    memory: bool = False
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)

    def precision_of(self, provider: Provider) -> str:
        """What ``provider`` computes in: its own precision, or the case's dtype."""
        return provider.precision or self.dtype

    def cost_of(self, provider: Provider) -> Cost:
        """What ``provider`` cannot do without."""
        return self.costs.get(self.precision_of(provider), self.cost)


@dataclass(frozen=True)
class Provider:
    """One way to compute the cases.

    Attributes:
        name: short, a column's heading.
        prepare: makes the job of a case: a function without arguments that computes everything and returns outputs by
            name. Raises :class:`Unavailable` where it cannot.
        answer: which of the suite's answers its outputs are held to; providers that compute less than the others
            have one of their own.
        note: what a reader must know to compare it fairly.
        compiles: whether its first call compiles, so that the time of that call is worth a column.
        graph: whether a variant replayed from a CUDA graph is measured too.
        precision: what weights are stored or products computed in, if it is not the case's dtype: ``bfloat16`` or
            ``int8``. It says which tolerance and which rate of products count.
    """

    name: str
    prepare: Callable[[Case], Job]
    answer: str = "full"
    note: str = ""
    compiles: bool = False
    graph: bool = False
    precision: str = ""


class Providers(Protocol):
    """A module with ways to compute a suite's cases, and what they are held to; see :class:`Suite`."""

    @property
    def PROVIDERS(self) -> tuple[Provider, ...]:
        """In the order in which they take turns."""

    def expected(self, case: Case, answer: str, /) -> Outputs:
        """The outputs in float64."""

    def tolerance(self, case: Case, precision: str, /) -> Mapping[str, float]:
        """How far off they may be."""


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name: also the stem of the results' file names.
        title: heading of the report.
        unit: what ``Case.items`` counts, in the plural.
        cases: in the order in which they are run.
        providers: in the order in which they take turns.
        expected: the outputs in float64 for a case and an answer's name.
        tolerance: largest permitted deviation of each output, relative to the largest entry that was expected, for a
            case and a precision.
        subject: name of the provider that all others are compared with.
    """

    name: str
    title: str
    unit: str
    cases: tuple[Case, ...]
    providers: tuple[Provider, ...]
    expected: Callable[[Case, str], Outputs]
    tolerance: Callable[[Case, str], Mapping[str, float]]
    subject: str = "fused"

    @classmethod
    def of(
        cls, module: Providers, *, name: str, title: str, unit: str, cases: Iterable[Case], subject: str = "fused"
    ) -> Suite:
        """The suite of a module's providers; all else as the attributes of the same name."""
        return cls(name, title, unit, tuple(cases), module.PROVIDERS, module.expected, module.tolerance, subject)
