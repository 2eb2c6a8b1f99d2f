"""The command line that all benchmarks share."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser

from sgela_fast.atomic import write_text
from sgela_fast.benchmarks.harness import environment
from sgela_fast.benchmarks.harness.markdown import milliseconds, render, significant
from sgela_fast.benchmarks.harness.results import Record
from sgela_fast.benchmarks.harness.runner import run
from sgela_fast.benchmarks.harness.suite import Case, Suite

RESULTS = environment.REPOSITORY / "benchmarks" / "results"
Grid = Literal["quick", "standard", "full"]


@dataclass(frozen=True)
class Choice:
    """What the command line says about the cases."""

    device: str
    grid: Grid
    precision: str


def main(build: Callable[[Choice], Suite], argv: Sequence[str] | None = None) -> Path:
    """Run the suite that ``build`` makes as the command line says.

    Args:
        build: the suite for a device and a grid.
        argv: arguments; those of the process by default.

    Returns:
        The JSON file that was written; the Markdown report stands beside it.
    """
    parser = ArgumentParser(description=(sys.modules[build.__module__].__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", type=Literal["cpu", "cuda"], default="cpu", help="where to compute")
    parser.add_argument("--precision", type=Literal["ieee", "tf32"], default="ieee", help="float32 products on CUDA")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, each pinned to a core")
    parser.add_argument("--grid", type=Literal["standard", "full"], default="standard", help="which cases")
    parser.add_argument("--quick", action="store_true", help="a few tiny cases: a smoke test, not a measurement")
    parser.add_argument("--select", default="", help="regular expression; only cases whose name has a match")
    parser.add_argument("--providers", default="", help="regular expression; only providers whose name has a match")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed seconds for each case")
    parser.add_argument("--no_memory", action="store_true", help="do not measure peak memory")
    parser.add_argument("--tag", default="", help="word added to the results' file name")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args(None if argv is None else list(argv))
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device is cuda, but torch sees no CUDA device")
    if args.precision == "tf32" and args.device == "cpu":
        raise SystemExit("--precision tf32 exists on CUDA alone")
    if not 0 < args.threads <= (os.cpu_count() or 1):
        raise SystemExit(f"--threads is {args.threads}; give 1 to {os.cpu_count()}")
    environment.set_up(args.device, args.precision, args.threads)
    grid: Grid = "quick" if args.quick else args.grid
    suite = build(Choice(args.device, grid, args.precision))
    chosen = _select(suite, args.select, args.providers)
    # A part of the cases must not replace the results of all of them.
    kinds = ["" if grid == "standard" else grid, "partial" if chosen != suite else ""]
    kinds += [environment.machine_name(args.device), "" if args.precision == "ieee" else args.precision]
    kinds += [f"{args.threads}_threads" if args.threads > 1 else "", args.tag]
    path: Path = args.out / ("_".join([suite.name, *(kind for kind in kinds if kind)]) + ".json")
    progress = _Progress(chosen)
    with tempfile.TemporaryDirectory() as compiled:
        # Compiling starts from nothing in every run, so that its time means the same each time; the processes that
        # measure memory find what was compiled here.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled
        if args.device == "cpu":  # the one core that it is pinned to
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        content = run(
            chosen,
            path,
            device=args.device,
            precision=args.precision,
            seconds=0.05 if args.quick else args.seconds,
            memory=not args.no_memory,
            quick=args.quick,
            report=progress,
        )
    write_text(path.with_suffix(".md"), render(content))
    print(f"{content['settings']['run_seconds']:.0f} s; results: {path}, report: {path.with_suffix('.md')}")
    return path


def _select(suite: Suite, cases: str, providers: str) -> Suite:
    kept = tuple(case for case in suite.cases if re.search(cases, case.name))
    used = tuple(provider for provider in suite.providers if re.search(providers, provider.name))
    if not kept or not used:
        raise SystemExit("--select or --providers leaves nothing to run")
    return replace(suite, cases=kept, providers=used)


class _Progress:
    """Prints one line for each finished case."""

    def __init__(self, suite: Suite) -> None:
        self.suite, self.done, self.began = suite, 0, time.perf_counter()

    def __call__(self, case: Case, records: Sequence[Record]) -> None:
        self.done += 1
        words = []
        for record in records:
            if record.seconds is not None:
                share = significant(100 * record.bound.seconds / record.seconds.median)
                words.append(f"{record.provider.name} {milliseconds(record.seconds.median)} ms ({share} %)")
            elif record.status == "refused":
                words.append(f"{record.provider.name} WRONG: {record.reason}")
        elapsed = time.perf_counter() - self.began
        figures = "; ".join(words) or "nothing could be measured"
        print(f"[{self.done}/{len(self.suite.cases)}, {elapsed:.0f} s] {case.name}: {figures}", flush=True)
