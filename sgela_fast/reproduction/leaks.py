"""What speaks against figures: test frames among the training ones, persons whom their place gives away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgela_fast.evaluation.archive_leakage import check_archive, check_transfer
from sgela_fast.reproduction.datasets import DataSet
from sgela_fast.reproduction.results import CellResult


def look_for_leaks(
    data: Sequence[DataSet], cells: Sequence[CellResult], train_value: str, before: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Check every test set, and every pair of data sets between which an encoder was transferred, once.

    Args:
        data: the data sets.
        cells: finished cells, which say what was tested with encoders of which data set.
        train_value: marks the training side.
        before: what an earlier run found; it is not looked at again.

    Returns:
        For each test set ``dataset``, ``split`` and ``trained_on`` (another data set, for transfer) with ``worst`` and
        ``findings`` of :class:`sgela_fast.evaluation.leakage.LeakageReport`.
    """
    found = list(before)
    known = {(entry["dataset"], entry["split"], entry["trained_on"]) for entry in found}
    archives = {item.name: item.archive for item in data}
    tested = {(cell.dataset, cell.split, cell.trained_on) for cell in cells if cell.protocol}
    splits = dict.fromkeys(split for _, split, _ in tested)
    conditions = [own for item in data for split in splits for own in item.conditions(split, train_value)]
    for condition in conditions:
        name, split, own = condition.name, condition.split, condition.data.archive
        sources = {source for dataset, column, source in tested if (dataset, column) == (name, split)}
        if sources and (name, split, None) not in known:
            report = check_archive(own, split, train_value=train_value, test_value=condition.test_value)
            found.append({"dataset": name, "split": split, "trained_on": None, **report.as_json()})
        for source in sorted(str(source) for source in sources - {None, condition.data.name}):
            if (name, split, source) not in known and source in archives:
                report = check_transfer(archives[source], own)
                found.append({"dataset": name, "split": split, "trained_on": source, **report.as_json()})
    return found
