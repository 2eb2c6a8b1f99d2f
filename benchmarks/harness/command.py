"""What the command line asks for: run suites, list them, compare results, write reports and plots."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sgela_fast.atomic import write_text
from sgela_fast.benchmarks import compare
from sgela_fast.benchmarks.harness import environment
from sgela_fast.benchmarks.harness.arguments import SUITES, Choice, Grid
from sgela_fast.benchmarks.harness.markdown import milliseconds, render, significant, summaries
from sgela_fast.benchmarks.harness.plots import write_plots
from sgela_fast.benchmarks.harness.results import Record, read
from sgela_fast.benchmarks.harness.runner import failure, run
from sgela_fast.benchmarks.harness.suite import Case, Suite
from sgela_fast.errors import ConfigError, SgelaError

QUICK_SECONDS = 0.05
# Names the folder for what one run writes and its processes share; it goes when the run ends.
SCRATCH = "SGELA_BENCHMARK_SCRATCH"


class Regression(SgelaError):
    """The newer results are slower."""


class SuiteFailed(SgelaError):
    """A suite could not be run to its end."""


def execute(args: Any, command: str) -> None:
    """Do what the arguments of :func:`sgela_fast.benchmarks.harness.arguments.add_arguments` say.

    Args:
        args: parsed.
        command: how the program is called, for the results file.

    Raises:
        ConfigError: an argument is wrong or contradicts another one.
        Regression: ``--compare`` found one.
        SuiteFailed: a suite did not get to its end; the others did.
    """
    if args.compare:
        _compare(args)
    elif args.report:
        for path in map(Path, args.report):
            _write_report(path, read(path), args.plot)
    elif args.list:
        choice = _choice(args)
        print("\n".join(describe(build(name, choice), by_name=bool(args.suites)) for name in args.suites or SUITES))
        if not args.suites:
            print("Name a suite to see each of its cases by the name that --select looks at.")
    else:
        _run_all(args, command)


def build(name: str, choice: Choice) -> Suite:
    """The suite of that name."""
    suite: Suite = importlib.import_module(f"sgela_fast.benchmarks.{name}").build(choice)
    return suite


def describe(suite: Suite, *, by_name: bool) -> str:
    """A few lines for ``--list``: the cases in groups with their sizes, or each by its name."""
    lines = [f"{suite.name}: {SUITES[suite.name]}", f"  by {', '.join(provider.name for provider in suite.providers)}"]
    if by_name:
        return "\n".join([*lines, *(f"  {case.name}" for case in suite.cases)])
    groups: dict[str, list[Case]] = {}
    for case in suite.cases:
        groups.setdefault(case.group, []).append(case)
    return "\n".join([*lines, *(f"  {group}: {_sizes(cases)}" for group, cases in groups.items())])


def _sizes(cases: Sequence[Case]) -> str:
    """What each axis goes through, such as ``B = 8, 128; K = 256``."""
    axes = {axis: dict.fromkeys(str(case.axes[axis]) for case in cases) for axis in cases[0].axes}
    return "; ".join(f"{axis} = {', '.join(values)}" for axis, values in axes.items())


def _choice(args: Any) -> Choice:
    for name in args.suites:
        if name not in SUITES:
            raise ConfigError(f"there is no suite {name!r}; choose of {', '.join(SUITES)}")
    if args.device == "cuda" and not torch.cuda.is_available() and not args.list:
        raise ConfigError("--device is cuda but torch sees no CUDA device; use --device cpu")
    if args.precision == "tf32" and args.device == "cpu":
        raise ConfigError("--precision tf32 exists on CUDA alone; leave it out or use --device cuda")
    if not 0 < args.threads <= (os.cpu_count() or 1):
        raise ConfigError(f"--threads is {args.threads}; give 1 to {os.cpu_count()}")
    if any(size < 1 for size in args.sizes):
        raise ConfigError("--sizes holds a number below 1; give numbers of windows")
    for option in ("select", "providers"):
        try:
            re.compile(getattr(args, option))
        except re.error as error:
            raise ConfigError(f"--{option} is no regular expression ({error}); mend it") from None
    grid: Grid = "quick" if args.quick else args.grid
    return Choice(args.device, grid, args.precision, tuple(args.sizes))


def _select(suite: Suite, args: Any) -> Suite:
    kept = tuple(case for case in suite.cases if re.search(args.select, case.name))
    used = tuple(provider for provider in suite.providers if re.search(args.providers, provider.name))
    return replace(suite, cases=kept if used else (), providers=used)


def _run_all(args: Any, command: str) -> None:
    choice = _choice(args)
    environment.set_up(args.device, args.precision, args.threads)
    failed, measured = [], 0
    with _shared_folder(args.device):
        for name in args.suites or SUITES:
            try:
                suite = _select(build(name, choice), args)
                if suite.cases:
                    _measure(suite, args, command)
                    measured += 1
            except SgelaError:
                raise
            except Exception as error:  # what one suite meets does not keep the others from being run
                failed.append(f"{name}: {failure(error)}")
                print(f"{name} failed: {failure(error)}", file=sys.stderr)
    if failed:
        raise SuiteFailed(f"{'; '.join(failed)}; run these suites alone to see more, or leave them out")
    if not measured:
        raise ConfigError("--select or --providers leaves nothing to run; see --list")


@contextmanager
def _shared_folder(device: str) -> Iterator[None]:
    """A folder for what a run compiles and writes and its processes share, named in the environment.

    Compiling starts from nothing in every run, so that its time means the same each time.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = {SCRATCH: folder, "TORCHINDUCTOR_CACHE_DIR": str(Path(folder, "compiled"))}
        if device == "cpu":  # the one core that it is pinned to
            wanted["TORCHINDUCTOR_COMPILE_THREADS"] = os.environ.get("TORCHINDUCTOR_COMPILE_THREADS", "1")
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _measure(suite: Suite, args: Any, command: str) -> None:
    path = Path(args.out) / f"{_stem(suite, args)}.json"
    content = _run(suite, path, args, command)
    _write_report(path, content, args.plot)
    print(f"# {content['title']}\n\n{summaries(content)}\n")
    print(f"{content['settings']['run_seconds']:.0f} s; results: {path}", flush=True)


def _run(suite: Suite, path: Path, args: Any, command: str) -> dict[str, Any]:
    return run(
        suite,
        path,
        device=args.device,
        precision=args.precision,
        seconds=QUICK_SECONDS if args.quick else args.seconds,
        memory=not args.no_memory,
        quick=args.quick,
        report=_Progress(suite),
        settings={"command": command},
    )


def _stem(suite: Suite, args: Any) -> str:
    """A part of the cases must not replace the results of all of them."""
    partial = "partial" if args.select or args.providers or args.sizes else ""
    grid = "quick" if args.quick else "" if args.grid == "standard" else args.grid
    words = [suite.name, grid, partial, environment.machine_name(args.device)]
    words += ["" if args.precision == "ieee" else args.precision]
    words += [f"{args.threads}_threads" if args.threads > 1 else "", args.tag]
    return "_".join(word for word in words if word)


def _write_report(path: Path, content: dict[str, Any], drawn: str) -> None:
    write_text(path.with_suffix(".md"), render(content))
    if drawn != "none":
        for plot in write_plots(content, path, drawn):
            print(f"plot: {plot}", file=sys.stderr)


def _compare(args: Any) -> None:
    if not args.threshold >= 1:
        raise ConfigError(f"--threshold is {args.threshold}; give a ratio of 1 or more, such as 1.1 for 10 %")
    settings: dict[str, Any] = {name: getattr(args, name) for name in ("threshold", "statistic", "relative_to")}
    pairs = list(compare.pairs(Path(args.compare[0]), Path(args.compare[1])))
    shared = {name for _, before, after in pairs for name in compare.providers(before) & compare.providers(after)}
    for option in ("relative_to", "provider"):
        name = getattr(args, option)
        if name is not None and shared and name not in shared:
            raise ConfigError(
                f"--{option} is {name!r}, which is not in both results; choose of {', '.join(sorted(shared))}"
            )
    worse, count = 0, 0
    for title, before, after in pairs:
        changes = compare.compare(before, after, **settings)
        changes = [change for change in changes if args.provider in (None, change.provider)]
        print(compare.report(title, before, after, changes))
        worse, count = worse + sum(change.regression for change in changes), count + len(changes)
    if not count:
        raise ConfigError("the results have no case and provider in common; give two of the same suite")
    print(f"{worse} of {count} are regressions")
    if worse:
        raise Regression(
            f"{worse} of {count} figures became slower than noise and --threshold permit; the table names them"
        )


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
            else:
                words.append(f"{record.provider.name}: {record.reason}")
        elapsed = time.perf_counter() - self.began
        figures = "; ".join(words) or "nothing could be measured"
        counted = f"{self.suite.name} {self.done}/{len(self.suite.cases)}, {elapsed:.0f} s"
        print(f"[{counted}] {case.name}: {figures}", file=sys.stderr, flush=True)


def call(arguments: Sequence[str], program: str, out: str) -> int:
    """Parse ``arguments`` and do it, as a program of its own.

    Args:
        arguments: of the command line.
        program: its name.
        out: folder of the results by default.

    Returns:
        The exit status: 0, 1 for a regression or a failed suite, 2 for wrong arguments.
    """
    from jsonargparse import ArgumentParser

    from sgela_fast.benchmarks.harness.arguments import add_arguments

    parser = ArgumentParser(prog=program, description="Verify, then measure.", allow_abbrev=False)
    add_arguments(parser, out)
    parsed = parser.parse_args(list(arguments))
    try:
        execute(parsed, " ".join([program, *arguments]))
    except SgelaError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def main(suite: str | None = None, arguments: Callable[[], Sequence[str]] = lambda: sys.argv[1:]) -> int:
    """``python -m benchmarks`` and, for one suite, ``python -m benchmarks.SUITE``."""
    root = environment.REPOSITORY
    out = str(root / "benchmarks" / "results") if root else "benchmark-results"
    given = list(arguments())
    return call([suite, *given] if suite else given, "python -m benchmarks", out)
