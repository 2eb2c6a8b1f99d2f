"""Compare two results files case by case; exit with 1 if the second has regressions.

    python -m benchmarks.compare before.json after.json
    python -m benchmarks.compare before.json after.json --relative_to eager

Times of two runs on a shared machine differ for many reasons. With ``--relative_to`` each time is first divided by that
provider's time at the same case in the same run, which leaves the difference in the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jsonargparse import ArgumentParser

from sgela_fast.benchmarks.harness.markdown import by_case, significant, table
from sgela_fast.benchmarks.harness.results import read

Statistic = Literal["median", "min", "p20", "p80"]


class Change(NamedTuple):
    """One provider at one case in both runs.

    Attributes:
        case: its name.
        provider: its name.
        ratio: time after over time before, ``None`` if there is no time in one of the runs.
        regression: whether it became slower than permitted, or lost its time.
        remark: why there is no ratio.
    """

    case: str
    provider: str
    ratio: float | None
    regression: bool
    remark: str


def compare(
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    threshold: float,
    statistic: Statistic = "median",
    relative_to: str | None = None,
) -> list[Change]:
    """Changes of all cases and providers that were measured before and are there after.

    Args:
        before: a results file's content.
        after: another's.
        threshold: ratio from which a change is a regression, such as 1.1 for 10 %.
        statistic: which quantile of the times to compare.
        relative_to: provider whose time at the same case divides the times of its run.
    """
    old, new = by_case(before["records"]), by_case(after["records"])
    changes = []
    for case in old:
        for provider, record in old[case].items():
            found = new.get(case, {}).get(provider)
            if record["seconds"] is None or provider == relative_to or found is None:
                continue
            earlier, later = (_time(run[case], provider, statistic, relative_to) for run in (old, new))
            if found["seconds"] is None:
                changes.append(Change(case, provider, None, True, f"no time any more: {found['reason']}"))
            elif earlier is None or later is None:
                changes.append(Change(case, provider, None, False, f"{relative_to} has no time to divide by"))
            else:
                ratio = later / earlier
                changes.append(Change(case, provider, ratio, ratio > threshold, ""))
    return changes


def _time(case: dict[str, dict[str, Any]], provider: str, statistic: str, relative_to: str | None) -> float | None:
    if case[provider]["seconds"] is None:
        return None
    seconds: float = case[provider]["seconds"][statistic]
    if relative_to is None:
        return seconds
    base = case.get(relative_to, {}).get("seconds")
    return seconds / base[statistic] if base else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the changes.

    Returns:
        1 if there is a regression, else 0.
    """
    parser = ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("before", type=Path, help="results file")
    parser.add_argument("after", type=Path, help="results file to hold against it")
    parser.add_argument("--threshold", type=float, default=1.1, help="ratio from which a change is a regression")
    parser.add_argument("--statistic", type=Statistic, default="median", help="which quantile to compare")
    parser.add_argument("--relative_to", type=str, default=None, help="provider whose time divides the others")
    parser.add_argument("--provider", type=str, default=None, help="compare this provider alone")
    args = parser.parse_args(None if argv is None else [str(word) for word in argv])
    before, after = read(args.before), read(args.after)
    changes = compare(before, after, threshold=args.threshold, statistic=args.statistic, relative_to=args.relative_to)
    changes = [change for change in changes if args.provider in (None, change.provider)]
    if not changes:
        raise SystemExit("the two files have no case and provider in common")
    for key in ("device", "precision", "threads", "torch"):
        if before["environment"][key] != after["environment"][key]:
            print(f"note: {key} differs: {before['environment'][key]}, then {after['environment'][key]}")
    print(table(["case", "provider", "after / before", ""], [_row(change) for change in changes]))
    worse = sum(change.regression for change in changes)
    print(f"{worse} of {len(changes)} are regressions (ratio above {args.threshold}, or no time any more)")
    return 1 if worse else 0


def _row(change: Change) -> list[str]:
    figure = "" if change.ratio is None else significant(change.ratio)
    return [change.case, change.provider, figure, f"REGRESSION {change.remark}" if change.regression else change.remark]


if __name__ == "__main__":
    raise SystemExit(main())
