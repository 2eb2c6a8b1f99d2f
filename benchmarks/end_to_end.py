"""Benchmark of the encoding job: an archive on disk to a store on disk, with its stages, beside the model alone.

    python -m benchmarks end_to_end
    TMPDIR=/fast/disk python -m benchmarks end_to_end --sizes 100000

Archive and stores lie in the folder for temporary files. The archive is read from the system's page cache from the
second call on. What the model does with windows that lie in memory is the provider ``in memory``.
"""

from __future__ import annotations

from sgela_fast.benchmarks import end_to_end_providers as providers
from sgela_fast.benchmarks.encoding import cost
from sgela_fast.benchmarks.end_to_end_providers import WINDOWS_PER_PERSON
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite
from sgela_fast.benchmarks.lstm_work import ENCODER, Shape

SIZES = (4096,)
CUDA_SIZES = (65536, 1048576)


def job_cost(shape: Shape, windows: int, precision: str) -> Cost:
    """The model's products; frames in (each once, though windows overlap), pooled float32 encodings out."""
    model = cost(shape, windows, "official", precision)
    weights = cost(shape, 0, "official", precision).bytes
    frames = windows * shape.frames / 2
    return Cost(model.flop, 4.0 * shape.groups * (frames * shape.inputs + windows * shape.hidden) + weights)


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    cases = []
    for size in choice.numbers((WINDOWS_PER_PERSON,), SIZES, CUDA_SIZES):
        persons = -(-size // WINDOWS_PER_PERSON)
        windows = persons * WINDOWS_PER_PERSON
        cases.append(
            Case(
                name=f"{windows} windows",
                group="archive to store, official variant, mean-pooled float32",
                axes={"windows": windows},
                items=windows,
                cost=job_cost(ENCODER, windows, "float32"),
                device=choice.device,
                memory=True,
                settings={"persons": persons, "precision": choice.precision},
                costs={name: job_cost(ENCODER, windows, name) for name in ("bfloat16", "int8")},
            )
        )
    return Suite.of(providers, name="end_to_end", title="Archive to store", unit="windows", cases=cases)


if __name__ == "__main__":
    raise SystemExit(main("end_to_end"))
