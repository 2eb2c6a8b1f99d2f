"""Benchmark of gated temporal pooling at SelfGait's sizes: 31 strips, 128 channels, 30 frames.

python -m benchmarks gated_temporal_pooling
python -m benchmarks gated_temporal_pooling --sizes 16 --providers 'fused|eager'
"""

from __future__ import annotations

from typing import NamedTuple

from sgela_fast.benchmarks import gated_temporal_pooling_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite

BATCHES = (8, 32, 128)


class Shape(NamedTuple):
    """Of a call: strips, frames, channels, hidden channels of a gate."""

    strips: int
    frames: int
    channels: int
    hidden: int


SELFGAIT = Shape(31, 30, 128, 32)
TINY = Shape(3, 7, 16, 4)
# Taps of both gates' first and second convolutions, together.
FIRST_TAPS, SECOND_TAPS = 6, 4


def cost(shape: Shape, count: int, *, backward: bool) -> Cost:
    """Work of one call.

    Forward: four convolutions; the features once, one vector a sequence and strip, the weights. Backward: the first
    convolutions twice, to features and weights; the second ones twice, but for one frame of each channel alone, since
    behind the maximum over time the others have no gradient; features, their gradient, the weights' gradient.
    """
    strips, frames, channels, hidden = shape
    tap = 2.0 * strips * count * frames * channels * hidden  # operations of one tap of a convolution
    weights = 4 * strips * (channels * hidden * (FIRST_TAPS + SECOND_TAPS) + 2 * (hidden + channels))
    features, pooled = 4 * strips * count * frames * channels, 4 * strips * count * channels
    forward = Cost((FIRST_TAPS + SECOND_TAPS) * tap, features + pooled + weights)
    if not backward:
        return forward
    flop = 2 * FIRST_TAPS * tap + 2 * SECOND_TAPS * tap / frames
    return Cost(forward.flop + flop, forward.bytes + 2 * features + pooled + 2 * weights)


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    shape = TINY if choice.quick else SELFGAIT
    cases = []
    for backward in (False, True):
        for count in choice.numbers((2,), BATCHES):
            passes = "forward and backward" if backward else "forward"
            settings = {"N": count, "backward": backward, "precision": choice.precision, **shape._asdict()}
            cases.append(
                Case(
                    name=f"{passes} N={count}",
                    group=f"{passes}, float32",
                    axes={"N": count},
                    items=count,
                    cost=cost(shape, count, backward=backward),
                    device=choice.device,
                    clock="cpu",
                    memory=choice.grid == "full",
                    settings=settings,
                )
            )
    return Suite.of(
        providers, name="gated_temporal_pooling", title="Gated temporal pooling", unit="sequences", cases=cases
    )


if __name__ == "__main__":
    raise SystemExit(main("gated_temporal_pooling"))
