"""What each precision of encoding costs in accuracy and gains in speed, on real recordings.

    python -m benchmarks.precision_accuracy RUN ARCHIVE --out results/NAME [--protocol G] [--precisions fp32 bf16 int8]

Encodes ARCHIVE with the run's model in every precision (one pinned thread), evaluates each store and writes
``NAME.json`` and ``NAME.md``. Windows per second are of encoding batches in memory, the precisions taking turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgela_fast.benchmarks.harness.environment import describe, set_up
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.evaluate import evaluate
from sgela_fast.evaluation.results import Outcome
from sgela_fast.skeletons.archive import Archive

PRECISIONS = ("fp32", "bf16", "int8")
BATCHES = (1, 8, 128, 512)
ROUNDS = 15


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode, evaluate, time, write and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="result files without their ending")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--protocol", choices=("C", "G", "both"), default="both")
    parser.add_argument("--stride", type=int, default=0, help="frames between windows; 0 is the run's own")
    options = parser.parse_args(arguments)
    set_up("cpu", "ieee", 1)
    archive = Archive(options.archive)
    encoders = {precision: Encoder.load(options.run, precision=precision) for precision in options.precisions}
    speed = windows_per_second(encoders, archive)
    rows = []
    for precision, encoder in encoders.items():
        found = accuracy(encoder, archive, options.protocol, options.stride)
        rows.append({"precision": precision, "windows_per_second": speed[precision], **found})
        result = {"environment": describe("cpu", "ieee"), "archive": archive.fingerprint, "rows": rows}
        options.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(rows) + "\n")
    print(table(rows))


def windows_per_second(encoders: dict[str, Encoder], archive: Archive) -> dict[str, dict[int, float]]:
    """Median rate of each precision at each batch size, in the process's own CPU time."""
    cut = [next(iter(encoders.values())).cut(archive.frames_of(row))[0] for row in archive.rows[:40]]
    windows = np.concatenate(cut)
    rates: dict[str, dict[int, float]] = {precision: {} for precision in encoders}
    for batch in BATCHES:
        given = torch.from_numpy(np.resize(windows, (batch, *windows.shape[1:])))
        seconds: dict[str, list[float]] = {precision: [] for precision in encoders}
        for _ in range(ROUNDS):
            for precision, encoder in encoders.items():
                start = time.process_time()
                encoder.ages(given)
                seconds[precision].append(time.process_time() - start)
        for precision, taken in seconds.items():
            rates[precision][batch] = round(batch / statistics.median(taken), 1)
    return rates


def accuracy(encoder: Encoder, archive: Archive, protocol: str, stride: int) -> dict[str, Any]:
    """Rank-1 by window with its interval, and mAP, of ``archive`` encoded by ``encoder``."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        encode(archive, encoder, store, EncodingConfig(stride=stride, threads=1))
        evaluated = evaluate([store], EvaluationConfig(protocol=protocol, threads=1), plots=False)  # type: ignore[arg-type]
    return {outcome.protocol: figures(outcome) for outcome in evaluated.stores[0].outcomes}


def figures(outcome: Outcome) -> dict[str, Any]:
    """The figures of one outcome that the table shows, in per cent."""
    windows = outcome.windows
    low, high = windows.intervals["rank1"]
    found = {"rank1": 100 * windows.rank[1], "interval": [100 * low, 100 * high], "nauc_cmc": 100 * windows.nauc_cmc}
    if windows.mean_average_precision is not None:
        found["map"] = 100 * windows.mean_average_precision
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One row a precision."""
    protocols = [name for name in ("C", "G") if name in rows[0]]
    head = [
        "precision",
        *(f"Rank-1, protocol {name} (interval)" for name in protocols),
        *(f"windows/s, B={batch}" for batch in rows[0]["windows_per_second"]),
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        shown = [row[name] for name in protocols]
        cells = [
            row["precision"],
            *(f"{f['rank1']:.2f} ({f['interval'][0]:.1f} to {f['interval'][1]:.1f})" for f in shown),
            *(f"{rate:,.0f}" for rate in row["windows_per_second"].values()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
