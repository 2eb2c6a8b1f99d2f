"""The benchmark of locality_attention measures what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sgela_fast.benchmarks.harness.arguments import Choice, Grid
from sgela_fast.benchmarks.harness.suite import Case
from sgela_fast.benchmarks.harness.verification import verify
from sgela_fast.benchmarks.locality_attention import build, cost
from sgela_fast.benchmarks.locality_attention_providers import (
    PROVIDERS,
    expected,
    flex_with_loss,
    inputs_of,
    prepare_eager,
    prepare_sdpa,
    tolerance,
)
from sgela_fast.reference.locality_attention import locality_attention

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = build(Choice("cpu", "quick", "ieee")).cases


# Without torch.compile FlexAttention computes every score in float64 and says that this is slow.
@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize(("queries", "keys", "sigma"), [(6, 6, 3.0), (1, 6, 3.0), (40, 40, 7.0), (5, 9, 1.3)])
def test_two_flex_calls_give_the_alignment_loss(queries: int, keys: int, sigma: float) -> None:
    query, key = (torch.randn(3, rows, 16, dtype=torch.float64) for rows in (queries, keys))
    context, loss = flex_with_loss(query, key, sigma)
    exact = locality_attention(query, key, sigma=sigma)
    torch.testing.assert_close(context, exact.context, rtol=0, atol=1e-13)
    torch.testing.assert_close(loss, exact.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_the_reference_passes_in_every_dtype_forward_and_backward(case: Case) -> None:
    deviations = verify(prepare_eager(case)(), expected(case, "full"), tolerance(case, case.dtype))
    names = {"context", "loss"} | ({"grad_query", "grad_key"} if case.settings["backward"] else set())
    assert set(deviations) == names


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_sdpa_is_held_to_the_context_and_its_gradients_alone(case: Case) -> None:
    answer = expected(case, "context")
    assert "loss" not in answer
    verify(prepare_sdpa(case)(), answer, tolerance(case, case.dtype))


def test_the_losss_gradient_is_large_enough_to_be_missed() -> None:
    case = next(case for case in QUICK if case.settings["backward"] and case.settings["family"] == "short")
    full, context = expected(case, "full"), expected(case, "context")
    for name in ("grad_query", "grad_key"):
        apart = float((full[name] - context[name]).abs().max() / full[name].abs().max())
        assert apart > 10 * tolerance(case, case.dtype)[name]


def test_the_answer_does_not_depend_on_how_the_batch_is_cut() -> None:
    case = build(Choice("cpu", "full", "ieee")).cases
    long = next(c for c in case if c.name == "forward float32 B=8 Tq=2048 Tk=2048 K=64")
    given = inputs_of(long)
    whole = expected(long, "full")
    for sequence in (0, 5):
        one = locality_attention(given.query[sequence].double(), given.key[sequence].double(), sigma=32.0)
        torch.testing.assert_close(whole["context"][sequence], one.context, rtol=0, atol=1e-13)
        torch.testing.assert_close(whole["loss"][sequence], one.loss, rtol=1e-12, atol=0)


def test_bytes_and_operations_are_those_of_one_window() -> None:
    # Three axes in float32: 55.3 kB forward, 92.2 kB backward; 0.11 million operations.
    forward, both = (cost(3, 6, 6, 256, 4, backward=backward) for backward in (False, True))
    assert forward.bytes == pytest.approx(55.3e3, rel=1e-3)
    assert both.bytes - forward.bytes == pytest.approx(92.2e3, rel=1e-3)
    assert forward.flop == pytest.approx(0.11e6, rel=0.01)
    assert both.flop == 3.5 * forward.flop


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_standard_grid_is_a_part_of_the_full_one(device: str) -> None:
    grids: tuple[Grid, ...] = ("standard", "full")
    names = [[case.name for case in build(Choice(device, grid, "ieee")).cases] for grid in grids]
    assert all(len(set(found)) == len(found) for found in names)
    assert set(names[0]) < set(names[1])
    assert any("B=65536" in name for name in names[0]) == (device == "cuda")


def test_every_provider_has_its_own_name() -> None:
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)


@pytest.mark.slow
def test_a_quick_run_leaves_results_and_a_report(tmp_path: Path) -> None:
    words = ["--quick", "--providers", "fused|eager|SDPA", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.locality_attention", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    records = json.loads(path.read_text())["records"]
    assert len(records) == 3 * len(QUICK)
    for record in records:
        assert record["status"] == ("measured" if record["provider"] != "fused" else record["status"])
        assert record["status"] != "refused", record["reason"]
        if record["status"] == "measured" and "Tq=64" in record["case"]["name"]:
            assert record["peak_bytes"] > 0
    assert "no figure here means anything" in path.with_suffix(".md").read_text()
