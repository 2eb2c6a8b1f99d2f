"""Benchmark of the whole model: centred windows in memory to gait encodings (AGEs), as the released code encodes.

python -m benchmarks encoding
python -m benchmarks encoding --sizes 1 128 2048 --providers 'fused|eager|ONNX Runtime$'
"""

from __future__ import annotations

from sgela_fast.benchmarks import encoding_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite
from sgela_fast.benchmarks.lstm_work import (
    BATCHES,
    CUDA_BATCHES,
    ENCODER,
    TINY,
    WEIGHT_BYTES,
    Shape,
    lstm_flop,
    lstm_weights,
)
from sgela_fast.benchmarks.others import searched

# The paper's variant computes the same but for the key projection; it is held against the others at one size.
PAPER_BATCHES = (128,)


def decoder_flop(shape: Shape, batch: int, variant: str) -> float:
    """Products of the decoding loop after all savings by algebra that leave the encodings exact.

    The bottom layer reads K numbers, for which the weights of a skeleton that is fed back are folded into those of the
    attentional vector, and none at the first step. The last step needs no attentional vector.
    """
    groups, _, hidden, layers, frames = shape
    cells = 2.0 * 4 * hidden * hidden * ((frames - 1) + frames + (layers - 1) * 2 * frames)
    fusion = (frames - 1) * 2.0 * hidden * 2 * hidden
    attention = frames * frames * 2.0 * hidden * 2
    key = frames * 2.0 * hidden * hidden if variant == "official" else 0.0
    return groups * batch * (cells + fusion + attention + key)


def decoder_weights(shape: Shape, variant: str) -> int:
    """Numbers in the weights that decoding reads."""
    groups, _, hidden, layers, _ = shape
    cells = layers * (2 * 4 * hidden * hidden + 4 * hidden)
    return groups * (cells + 2 * hidden * hidden + (hidden * hidden if variant == "official" else 0))


def cost(shape: Shape, batch: int, variant: str, precision: str) -> Cost:
    """Windows and weights in, AGEs out, both in float32; encoder and decoder."""
    groups, inputs, hidden, _, frames = shape
    values = 4.0 * batch * frames * groups * (inputs + hidden)
    weights = WEIGHT_BYTES[precision] * (lstm_weights(shape) + decoder_weights(shape, variant))
    return Cost(lstm_flop(shape, batch) + decoder_flop(shape, batch, variant), values + weights)


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    shape = TINY if choice.quick else ENCODER
    batches = choice.numbers((1, 3), BATCHES, CUDA_BATCHES)
    chosen = [("official", batch) for batch in batches]
    chosen += [("paper", batch) for batch in batches if choice.quick or choice.grid == "full" or batch in PAPER_BATCHES]
    cases = [
        Case(
            name=f"{variant} B={batch}",
            group=f"{variant} variant, float32 windows and encodings",
            axes={"B": batch},
            items=batch,
            cost=cost(shape, batch, variant, "float32"),
            device=choice.device,
            clock="cpu",
            memory=choice.grid == "full" and batch in (128, 2048),
            settings={
                "B": batch,
                "variant": variant,
                "precision": choice.precision,
                "search": searched(choice.grid, batch),
                **shape._asdict(),
            },
            costs={name: cost(shape, batch, variant, name) for name in ("bfloat16", "int8")},
        )
        for variant, batch in chosen
    ]
    return Suite.of(providers, name="encoding", title="Encoding windows", unit="windows", cases=cases)


if __name__ == "__main__":
    raise SystemExit(main("encoding"))
