"""Compare two results files case by case.

    python -m benchmarks --compare before.json after.json
    python -m benchmarks --compare before/ after/ --relative_to eager

Times of two runs on a shared machine differ for many reasons. What each run says of its own noise, by its quantiles,
widens the ratio from which a change is a regression; with ``--relative_to`` each time is first divided by that
provider's time at the same case in the same run, which leaves the difference in the code.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sgela_fast.benchmarks.harness.markdown import by_case, significant, table
from sgela_fast.benchmarks.harness.results import read
from sgela_fast.errors import DataError

Statistic = Literal["median", "min", "p20", "p80"]
# Of a normal distribution, so many standard deviations lie between the 20 % and the 80 % quantile.
QUANTILES_APART = 1.683
DEVIATIONS = 2.0


class Change(NamedTuple):
    """One provider at one case in both runs.

    Attributes:
        case: its name.
        provider: its name.
        ratio: time after over time before, ``None`` if there is no time in one of the runs.
        limit: ratio above which it is a regression: the threshold, or more where the times scatter more.
        regression: whether it became slower than that, or lost its time.
        remark: why there is no ratio.
    """

    case: str
    provider: str
    ratio: float | None
    limit: float
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
        threshold: least ratio from which a change is a regression, such as 1.1 for 10 %.
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
                changes.append(Change(case, provider, None, threshold, True, f"no time any more: {found['reason']}"))
            elif earlier is None or later is None:
                changes.append(Change(case, provider, None, threshold, False, f"{relative_to} has no time"))
            else:
                measured = [run[case][name] for run in (old, new) for name in (provider, relative_to) if name]
                limit = max(threshold, 1 + noise(measured))
                changes.append(Change(case, provider, later / earlier, limit, later / earlier > limit, ""))
    return changes


def providers(run: dict[str, Any]) -> set[str]:
    """Names of all providers of a results file's content."""
    return {record["provider"] for record in run["records"]}


def noise(records: list[dict[str, Any]]) -> float:
    """How far a ratio of these records' times may be off by chance: two standard deviations of a sample, relatively.

    A median of many samples scatters less than a sample; between two runs much else differs, which no quantile tells.
    """
    spreads = [(times["p80"] - times["p20"]) / times["median"] for times in (record["seconds"] for record in records)]
    return DEVIATIONS * math.hypot(*spreads) / QUANTILES_APART


def pairs(before: Path, after: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Title and contents of what is to be compared: two files, or the files of equal names in two folders.

    Raises:
        DataError: a file is missing or holds no results, or the folders have no file name in common.
    """
    for path in (before, after):
        if not path.exists():
            raise DataError(f"{path} does not exist; name two results files, or two folders of them")
    if before.is_dir() != after.is_dir():
        raise DataError(f"{before} and {after} are not of one kind; give two files or two folders")
    if not before.is_dir():
        yield before.name, read(before), read(after)
        return
    names = sorted({path.name for path in before.glob("*.json")} & {path.name for path in after.glob("*.json")})
    if not names:
        raise DataError(f"{before} and {after} have no results of the same name; give two files instead")
    for name in names:
        try:
            yield name, read(before / name), read(after / name)
        except DataError as error:  # other reports may lie there as well
            print(f"note: {error}", file=sys.stderr)


def report(title: str, before: dict[str, Any], after: dict[str, Any], changes: list[Change]) -> str:
    """Markdown: in what the runs differ, and a table of all changes."""
    runs = [run["environment"] for run in (before, after)]
    notes = [
        f"note: {key} differs: {runs[0].get(key)}, then {runs[1].get(key)}"
        for key in ("device", "kernel_isa", "precision", "threads", "torch")
        if runs[0].get(key) != runs[1].get(key)
    ]
    timed, found = _timed(before), {(record["case"]["name"], record["provider"]) for record in after["records"]}
    if missing := len(timed - found):
        notes.append(f"note: {missing} of {len(timed)} figures were not measured again and are left out")
    header = ["case", "provider", "after / before", "limit", ""]
    return "\n\n".join([f"## {title}", *notes, table(header, map(_row, changes))]) + "\n"


def _timed(run: dict[str, Any]) -> set[tuple[str, str]]:
    """Case and provider of every figure."""
    return {(record["case"]["name"], record["provider"]) for record in run["records"] if record["seconds"]}


def _time(case: dict[str, dict[str, Any]], provider: str, statistic: str, relative_to: str | None) -> float | None:
    if case[provider]["seconds"] is None:
        return None
    seconds: float = case[provider]["seconds"][statistic]
    if relative_to is None:
        return seconds
    base = case.get(relative_to, {}).get("seconds")
    return seconds / base[statistic] if base else None


def _row(change: Change) -> list[str]:
    figure = "" if change.ratio is None else significant(change.ratio)
    remark = f"REGRESSION {change.remark}" if change.regression else change.remark
    return [change.case, change.provider, figure, significant(change.limit), remark]


if __name__ == "__main__":
    from sgela_fast.benchmarks.harness.command import main

    raise SystemExit(main(arguments=lambda: ["--compare", *sys.argv[1:]]))
