"""Benchmark of the attention decoder at the gait model's shape: encoded states to context vectors, forward alone.

python -m benchmarks attention_decoder
"""

from __future__ import annotations

from sgela_fast.benchmarks import attention_decoder_providers as providers
from sgela_fast.benchmarks.encoding import decoder_flop, decoder_weights
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite
from sgela_fast.benchmarks.lstm_work import ENCODER, TINY, WEIGHT_BYTES, Shape

BATCHES = (1, 8, 128, 2048)


def cost(shape: Shape, batch: int, variant: str, precision: str) -> Cost:
    """Encoded states, initial states and weights in, contexts out."""
    groups, _, hidden, layers, frames = shape
    values = 4.0 * groups * batch * hidden * (2 * frames + 2 * layers)
    weights = WEIGHT_BYTES[precision] * decoder_weights(shape, variant)
    return Cost(decoder_flop(shape, batch, variant), values + weights)


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    shape = TINY if choice.quick else ENCODER
    cases = [
        Case(
            name=f"{variant} B={batch}",
            group=f"{variant} variant, contexts alone",
            axes={"B": batch},
            items=batch,
            cost=cost(shape, batch, variant, "float32"),
            device=choice.device,
            clock="cpu",
            settings={"B": batch, "variant": variant, "precision": choice.precision, **shape._asdict()},
            costs={name: cost(shape, batch, variant, name) for name in ("bfloat16", "int8")},
        )
        for variant in ("official", "paper")
        for batch in choice.numbers((1, 3), BATCHES)
    ]
    return Suite.of(providers, name="attention_decoder", title="Attention decoder", unit="windows", cases=cases)


if __name__ == "__main__":
    raise SystemExit(main("attention_decoder"))
