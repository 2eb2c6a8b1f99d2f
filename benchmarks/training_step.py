"""Benchmark of one training step: forward, losses, backward and the optimiser's update, in both variants.

python -m benchmarks training_step --sizes 128 256
"""

from __future__ import annotations

from dataclasses import replace

from sgela_fast.benchmarks import training_step_providers as providers
from sgela_fast.benchmarks.encoding import decoder_flop
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite
from sgela_fast.benchmarks.lstm_work import ENCODER, TINY, Shape, lstm_flop
from sgela_fast.benchmarks.training_step_providers import parameters_of

BATCHES = (128, 256)
CUDA_BATCHES = (128, 256, 1024, 4096)


def forward_flop(shape: Shape, batch: int, variant: str) -> float:
    """Products of the forward pass in training.

    Beside those of encoding: the attentional vector of the last step, the output layer, and in the paper's variant the
    true previous skeleton, which the bottom layer reads from the second step on.
    """
    groups, inputs, hidden, _, frames = shape
    fusion = 2.0 * hidden * 2 * hidden
    output = frames * 2.0 * hidden * inputs
    taught = (frames - 1) * 2.0 * 4 * hidden * inputs if variant == "paper" else 0.0
    further = groups * batch * (fusion + output + taught)
    return lstm_flop(shape, batch) + decoder_flop(shape, batch, variant) + further


def cost(shape: Shape, batch: int, variant: str, parameters: int) -> Cost:
    """Three times the forward pass; windows once, and parameters and both of Adam's moments read and written."""
    windows = 4.0 * shape.groups * batch * shape.frames * shape.inputs
    return Cost(3 * forward_flop(shape, batch, variant), windows + 6 * 4.0 * parameters)


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    shape = TINY if choice.quick else ENCODER
    batches = choice.numbers((4,), BATCHES, CUDA_BATCHES)
    cases = []
    for variant in ("official", "paper"):
        for batch in batches:
            case = Case(
                name=f"{variant} B={batch}",
                group=f"{variant} variant, float32",
                axes={"B": batch},
                items=batch,
                cost=Cost(0, 0),
                device=choice.device,
                clock="cpu",
                memory=batch == min(batches),
                settings={
                    "B": batch,
                    "variant": variant,
                    "precision": choice.precision,
                    "compiled": int(choice.grid == "full" or batch == min(batches)),
                    **shape._asdict(),
                },
            )
            cases.append(replace(case, cost=cost(shape, batch, variant, parameters_of(case))))
    return Suite.of(providers, name="training_step", title="Training step", unit="windows", cases=cases)


if __name__ == "__main__":
    raise SystemExit(main("training_step"))
