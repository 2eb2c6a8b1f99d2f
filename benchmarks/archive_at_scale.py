"""Encode archives of different sizes in processes of their own and record time, memory over time and bytes written.

    python -m benchmarks.archive_at_scale ARCHIVE [ARCHIVE ...] --out results/NAME -- [arguments of `sgela-fast encode`]

Say which encoder behind the two dashes: ``--model RUN`` or ``--untrained official``, and more. Stores are made in
a temporary folder beside ``--out`` and removed. Memory is read from /proc while the process runs: its anonymous pages,
which are its own, and the pages of mapped files, which the system can take back at any time. Writes ``NAME.json`` and
``NAME.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgela_fast.benchmarks.harness.environment import describe
from sgela_fast.encoding.store import Store
from sgela_fast.skeletons.archive import Archive

INTERVAL_SECONDS = 0.25
POINTS = 300
_FIELDS = {"own": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every archive, then write and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="result files without their ending")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(given[:split])
    encode = given[split + 1 :]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    runs = [measure(archive, encode, options.threads, options.out.parent) for archive in options.archives]
    result = {"environment": describe("cpu", "ieee"), "arguments": encode, "threads": options.threads, "runs": runs}
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(runs, encode, options.threads) + "\n")
    print(options.out.with_suffix(".md").read_text())


def measure(path: Path, encode: Sequence[str], threads: int, beside: Path) -> dict[str, Any]:
    """Encode ``path`` in a process of its own.

    Raises:
        SystemExit: the process failed; its message is printed.
    """
    archive = Archive(path)
    folder = Path(tempfile.mkdtemp(dir=beside, prefix="store-"))
    store = folder / "store"
    settings = [f"--encoding.threads={threads}", *encode]
    command = [sys.executable, "-m", "sgela_fast.cli.main", "encode", str(path), "--out", str(store), *settings]
    try:
        start = time.monotonic()
        with (folder / "stderr").open("w+") as messages:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
            curve = _watch(process, start)
            seconds = time.monotonic() - start
            messages.seek(0)
            if process.returncode:
                sys.exit(f"encoding {path} failed: {messages.read().strip()}")
        windows = len(Store(store))
        written = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "archive": path.name,
        "recordings": len(archive),
        "frames": sum(row.frames for row in archive.rows),
        "windows": windows,
        "seconds": round(seconds, 2),
        "bytes_written": written,
        "peak_bytes": max(point["peak"] for point in curve),
        "peak_own_bytes": max(point["own"] for point in curve),
        "curve": thinned(curve),
    }


def thinned(curve: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """At most ``POINTS`` of the points: of each stretch the one with the most memory of its own."""
    stretch = -(-len(curve) // POINTS) or 1
    return [
        max(curve[begin : begin + stretch], key=lambda point: point["own"]) for begin in range(0, len(curve), stretch)
    ]


def table(runs: Sequence[dict[str, Any]], encode: Sequence[str], threads: int) -> str:
    """One row an archive; memory in units of 2^20 bytes."""
    lines = [
        f"`sgela-fast encode ARCHIVE --encoding.threads={threads} {' '.join(encode)}`",
        "",
        "| archive | frames | windows | seconds | windows/s | store, MiB | peak memory, MiB | of it its own |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        cells = [
            run["archive"],
            f"{run['frames']:,}",
            f"{run['windows']:,}",
            f"{run['seconds']:.1f}",
            f"{run['windows'] / run['seconds']:,.0f}",
            *(f"{run[name] / 2**20:,.0f}" for name in ("bytes_written", "peak_bytes", "peak_own_bytes")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _watch(process: subprocess.Popen[bytes], start: float) -> list[dict[str, float]]:
    curve: list[dict[str, float]] = []
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            text = status.read_text()
        except OSError:
            break
        found = {name: re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE) for name, field in _FIELDS.items()}
        values = {name: int(match[1]) * 1024 for name, match in found.items() if match}
        if len(values) == len(_FIELDS):  # a process that is ending has none
            curve.append({"seconds": round(time.monotonic() - start, 2), **values})
        time.sleep(INTERVAL_SECONDS)
    process.wait()
    return curve


if __name__ == "__main__":
    main()
