"""Every tile of `batched_lstm`'s Triton kernels that can be chosen compiles, within its budget."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.kernels.compiled import rows_of

pytest.importorskip("triton")

from sgela_fast.benchmarks.triton_compile_lstm import beyond
from sgela_fast.kernels.batched_lstm_tuning import ARITHMETICS, HOPPER, SIDES, all_configurations, choose_tiles


@pytest.mark.parametrize("capability", [80, 86, 90, 100])
def test_every_choice_of_tiles_is_among_those_that_are_compiled(capability: int) -> None:
    configurations = all_configurations(HOPPER if capability >= HOPPER else 80)
    compiled = {(case.side, case.arithmetic, case.tiles, case.aligned) for case in configurations}
    for arithmetic, side, hidden in product(ARITHMETICS, SIDES, (1, 33, 40, 48, 256, 1024)):
        for batch in (1, 16, 17, 128, 1000, 4096, 65536, 10**7):
            chosen = (arithmetic, choose_tiles(side, arithmetic, 3, batch, hidden, capability), hidden % 16 == 0)
            assert (side, *chosen) in compiled or (side == "forward" and ("taped", *chosen) in compiled)


def test_small_batches_have_more_programs_than_large_tiles_would_give() -> None:
    few, large = (choose_tiles("forward", "half", 3, batch, 256) for batch in (16, 65536))
    assert few.block_m == 16
    assert (256 // few.block_h) * 3 >= 48
    assert large.block_m * large.block_h == 8192


@pytest.fixture(scope="module")
def compiled() -> list[dict[str, Any]]:
    """What the compiler makes of every configuration."""
    return rows_of("triton_compile_lstm")


@pytest.mark.slow
def test_every_configuration_compiles_within_its_budget(compiled: list[dict[str, Any]]) -> None:
    asked = [row for row in compiled if row["options"]]
    assert len(asked) == sum(len(list(all_configurations(arch))) for arch in (80, 90))
    assert not [(row, beyond(row)) for row in compiled if beyond(row)]


@pytest.mark.slow
def test_accesses_are_wide_and_products_take_the_matrix_units(compiled: list[dict[str, Any]]) -> None:
    for row in (row for row in compiled if row["hidden"] % 16 == 0):
        assert row["load_bits"] == 128, row
        assert row["store_bits"] >= 64, row
        tall = row["tiles"]["block_m"] >= 64  # an instruction of Hopper's has 64 rows
        units = "wgmma" if row["arch"] == HOPPER and tall else "mma"
        assert row["matrix"] == ("" if row["arithmetic"] == "ieee" else units), row
