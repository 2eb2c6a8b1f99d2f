"""Peak memory of a provider, measured in a process of its own."""

from __future__ import annotations

import sys

import pytest
import torch

from sgela_fast.benchmarks.harness.memory import peak_bytes
from sgela_fast.benchmarks.harness.suite import Case, Cost, Job, Provider, Unavailable

MEBIBYTE = 2**20
CASE = Case("memory", "memory", {}, items=1, cost=Cost(0, 0))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's high-water mark of resident memory")


def allocate(_case: Case) -> Job:
    """40 MiB as a temporary, then 24 MiB beside 16 MiB that stay: 40 MiB at the peak."""
    inputs = torch.ones(64 * MEBIBYTE // 4)

    def job() -> dict[str, torch.Tensor]:
        torch.ones(40 * MEBIBYTE // 4).sum()
        return {"kept": inputs[: 16 * MEBIBYTE // 4] + 1, "also": inputs[: 24 * MEBIBYTE // 4] + 1}

    return job


def fail(_case: Case) -> Job:
    raise RuntimeError("not here")


def test_peak_is_what_one_call_adds_to_its_inputs() -> None:
    found = peak_bytes(Provider("allocate", allocate), CASE, allocate(CASE), ["torch"])
    assert found == pytest.approx(40 * MEBIBYTE, rel=0.03)


def test_a_failure_in_the_process_comes_back_as_a_reason() -> None:
    with pytest.raises(Unavailable, match="RuntimeError: not here"):
        peak_bytes(Provider("fail", fail), CASE, dict, ["torch"])
