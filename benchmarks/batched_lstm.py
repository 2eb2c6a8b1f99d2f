"""Benchmark of the batched LSTM at the gait encoder's shape: three LSTMs, 20 inputs, two layers of 256, six frames.

python -m benchmarks batched_lstm
python -m benchmarks batched_lstm --sizes 1 128 --providers 'fused|nn.LSTM'
"""

from __future__ import annotations

from sgela_fast.benchmarks import batched_lstm_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Suite
from sgela_fast.benchmarks.lstm_work import BATCHES, CUDA_BATCHES, ENCODER, TINY, lstm_cost
from sgela_fast.benchmarks.others import searched

# With gradients the largest sizes take minutes on a core.
LARGEST_TRAINED = {"standard": 512, "full": 8192, "quick": 8192}


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    shape = TINY if choice.quick else ENCODER
    cases = []
    for backward in (False, True):
        for batch in choice.numbers((1, 3), BATCHES, CUDA_BATCHES):
            if backward and batch > LARGEST_TRAINED[choice.grid] and not choice.sizes and choice.device == "cpu":
                continue
            passes = "forward and backward" if backward else "forward"
            costs = {name: lstm_cost(shape, batch, name, backward=False) for name in ("bfloat16", "int8")}
            cases.append(
                Case(
                    name=f"{passes} B={batch}",
                    group=f"{passes}, float32 inputs",
                    axes={"B": batch},
                    items=batch,
                    cost=lstm_cost(shape, batch, "float32", backward=backward),
                    device=choice.device,
                    clock="cpu",
                    memory=choice.grid == "full" and batch in (128, 2048),
                    settings={
                        "B": batch,
                        "backward": backward,
                        "precision": choice.precision,
                        "search": searched(choice.grid, batch, backward=backward),
                        **shape._asdict(),
                    },
                    costs={} if backward else costs,
                )
            )
    return Suite.of(
        providers, name="batched_lstm", title="Three LSTMs of the gait encoder", unit="windows", cases=cases
    )


if __name__ == "__main__":
    raise SystemExit(main("batched_lstm"))
