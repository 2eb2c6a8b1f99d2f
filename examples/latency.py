"""How long an encoder takes for a few windows on this machine: warmed, by its ordinary call, and in eager PyTorch.

    python examples/latency.py            # an untrained encoder of the paper's size
    python examples/latency.py RUN        # the encoder of a run folder

Prints the median and the 99th percentile of a call in milliseconds, by the wall clock and by the process's own CPU
time; on a machine that others use too, only the latter says something. The ways take turns, so
that all meet the same noise.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from sgela_fast import Encoder, get_layout

ROUNDS = {1: 150, 8: 60, 32: 24}


def open_encoder(backend: str) -> Encoder:
    """The encoder of the run folder that the command line names, or an untrained one."""
    if len(sys.argv) > 1:
        return Encoder.load(sys.argv[1], backend, "cpu")  # type: ignore[arg-type]
    return Encoder.untrained("official", get_layout("kinect-v1"), backend=backend)  # type: ignore[arg-type]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    encoder, eager = open_encoder("auto"), open_encoder("reference")
    print(f"backend {encoder.model.choice.name}: {encoder.model.choice.reason}")
    print(f"{'windows':>7}  {'way':16} {'wall p50':>9} {'p99':>8} {'CPU p50':>9} {'p99':>8}  ms")
    for batch, rounds in ROUNDS.items():
        shape = (batch, encoder.window.frames, len(encoder.layout), 3)
        windows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        ways = {
            "eager": eager.encode_windows,
            "encode_windows": encoder.encode_windows,
            "warm": encoder.warm(batch),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(rounds + 2):
            for name, encode in ways.items():
                wall, own = time.perf_counter(), time.process_time()
                encode(windows)
                if number >= 2:
                    taken[name].append((time.perf_counter() - wall, time.process_time() - own))
        for name, times in taken.items():
            (wall50, own50), (wall99, own99) = 1e3 * np.quantile(times, (0.5, 0.99), axis=0)
            print(f"{batch:7}  {name:16} {wall50:9.2f} {wall99:8.2f} {own50:9.2f} {own99:8.2f}")


if __name__ == "__main__":
    main()
