"""Encode one archive with the local engine and on Ray, in turns, and compare the time of the two.

    python -m benchmarks.engine_overhead ARCHIVE --out results/NAME --rounds 3 -- [arguments of `sgela-fast encode`]

One worker of one thread each. Every run is a process of its own; its wall-clock time counts starting and ending it, and
so Ray's. CPU time is that of all processes it began, workers and Ray's own services among them, read from /proc while
they run: a shared machine distorts it less. Stores are compared byte for byte. Writes ``NAME.json`` and ``NAME.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgela_fast.benchmarks.harness.environment import describe
from sgela_fast.encoding.store import Store

INTERVAL_SECONDS = 0.2
ENGINES = {"local": [], "ray": ["--engine=ray", "--workers=1", "--cpus=1"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both engines, then write and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="result files without their ending")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(given[:split])
    encode = given[split + 1 :]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=options.out.parent, prefix="stores-"))
    try:
        runs = [
            {"round": number, **measure(options.archive, engine, encode, folder / f"{engine}-{number}")}
            for number in range(options.rounds)
            for engine in ENGINES
        ]
        equal = all(same(folder / "local-0", folder / f"ray-{number}") for number in range(options.rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not equal:
        sys.exit("the engines' stores differ")
    result = {"environment": describe("cpu", "ieee"), "arguments": encode, "runs": runs, "overhead": overhead(runs)}
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(result) + "\n")
    print(options.out.with_suffix(".md").read_text())


def measure(archive: Path, engine: str, encode: Sequence[str], store: Path) -> dict[str, Any]:
    """Encode in a process of its own.

    Raises:
        SystemExit: the process failed; its message is printed.
    """
    command = [sys.executable, "-m", "sgela_fast.cli.main", "encode", str(archive), "--out", str(store)]
    command += ["--encoding.threads=1", *ENGINES[engine], *encode]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        cpu: dict[int, float] = {}
        while process.poll() is None:
            cpu |= cpu_seconds(process.pid)
            time.sleep(INTERVAL_SECONDS)
        seconds = time.monotonic() - start
        messages.seek(0)
        if process.returncode:
            sys.exit(f"encoding with {engine} failed: {messages.read().strip()}")
    return {
        "engine": engine,
        "windows": len(Store(store)),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(cpu.values()), 2),
    }


def cpu_seconds(root: int) -> dict[int, float]:
    """CPU time so far of a process and of all that descend from it, by process."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        used[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children: dict[int, list[int]] = {}
    for process, parent in parents.items():
        children.setdefault(parent, []).append(process)
    family, waiting = {}, [root]
    while waiting:
        process = waiting.pop()
        family[process] = used.get(process, 0.0)
        waiting += children.get(process, [])
    return family


def same(one: Path, other: Path) -> bool:
    """Whether two stores hold the same files with the same bytes."""
    files = [sorted(path.name for path in store.iterdir()) for store in (one, other)]
    return files[0] == files[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in files[0])


def overhead(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How much longer Ray took: median over rounds of the ratio within a round, less one, for both clocks."""
    found = {}
    for clock in ("seconds", "cpu_seconds"):
        by_round: dict[int, dict[str, float]] = {}
        for run in runs:
            by_round.setdefault(run["round"], {})[run["engine"]] = run[clock]
        found[clock] = statistics.median(times["ray"] / times["local"] for times in by_round.values()) - 1
    return found


def table(result: dict[str, Any]) -> str:
    """One row a run."""
    lines = [
        f"`sgela-fast encode ARCHIVE --encoding.threads=1 {' '.join(result['arguments'])}`",
        "",
        "| round | engine | windows | seconds | CPU seconds, all processes | windows/s |",
        "|---|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        cells = [run["round"], run["engine"], f"{run['windows']:,}", run["seconds"], run["cpu_seconds"]]
        lines.append(f"| {' | '.join(map(str, cells))} | {run['windows'] / run['seconds']:,.0f} |")
    extra = result["overhead"]
    lines += ["", f"Ray over local: {extra['seconds']:+.1%} wall clock, {extra['cpu_seconds']:+.1%} CPU time (median)."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
