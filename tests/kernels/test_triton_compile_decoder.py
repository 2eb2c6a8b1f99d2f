"""Every tile of `attention_decoder`'s Triton kernels that can be chosen compiles, within its budget.

What the tests compile is the configurations of K = 256 in half precision and exact float32; the rest is in the report
that ``benchmarks/triton_compile_decoder.py`` writes.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from tests.kernels.compiled import ROOT, rows_of

pytest.importorskip("triton")

from sgela_fast.benchmarks.triton_compile_decoder import beyond, cases
from sgela_fast.kernels.attention_decoder_tuning import (
    all_attention_configurations,
    all_cell_configurations,
    choose_attention_tiles,
    choose_cell_tiles,
    parts_of,
)
from sgela_fast.kernels.batched_lstm_tuning import ARITHMETICS, HOPPER


@pytest.mark.parametrize("capability", [80, 86, 90, 100])
def test_every_choice_of_tiles_is_among_those_that_are_compiled(capability: int) -> None:
    cells = {(c.arithmetic, c.tiles, c.aligned) for c in all_cell_configurations(min(max(capability // 10, 8), 9) * 10)}
    attention = {(c.arithmetic, c.tiles, c.aligned) for c in all_attention_configurations()}
    for arithmetic, hidden in product(ARITHMETICS, (1, 16, 33, 64, 100, 256, 300, 1024)):
        for batch in (1, 16, 17, 128, 1000, 4096, 65536, 10**7):
            aligned = hidden % 16 == 0
            assert (arithmetic, choose_cell_tiles(arithmetic, 3, batch, hidden, capability), aligned) in cells
            same = "tf32x3" if arithmetic == "tf32" else arithmetic
            assert (same, choose_attention_tiles(arithmetic, 3, batch, hidden), aligned) in attention


@pytest.mark.parametrize("hidden", [1, 33, 256, 1024])
def test_parts_cover_all_units_and_small_batches_have_more_of_them(hidden: int) -> None:
    counts = []
    for batch in (1, 100, 4096, 10**6):
        tiles = choose_attention_tiles("half", 3, batch, hidden)
        parts = parts_of(tiles, 3, batch, hidden)
        assert 1 <= parts <= -(-hidden // tiles.block_n)
        assert tiles.block_k >= hidden
        counts.append(parts)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1


@pytest.fixture(scope="module")
def compiled() -> list[dict[str, Any]]:
    """What the compiler makes of the configurations of K = 256."""
    return rows_of("triton_compile_decoder", "--few")


@pytest.mark.slow
def test_what_encoding_takes_compiles_within_its_budget(compiled: list[dict[str, Any]]) -> None:
    assert {(row["kernel"], row["arch"]) for row in compiled} == set(product(("cell", "attention"), (80, 90)))
    assert not [(row, beyond(row)) for row in compiled if beyond(row)]


@pytest.mark.slow
def test_accesses_are_wide_and_products_take_the_matrix_units(compiled: list[dict[str, Any]]) -> None:
    for row in compiled:
        assert row["load_bits"] == 128, row
        assert row["store_bits"] >= 64, row
        units = "wgmma" if row["arch"] == HOPPER and row["tiles"]["block_m"] >= 64 else "mma"
        assert row["matrix"] == ("" if row["arithmetic"] == "ieee" else units), row


def test_the_report_holds_every_configuration_and_none_is_beyond_its_budget() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "triton_compile_decoder.json").read_text())["rows"]
    keys = ("kernel", "arithmetic", "arch", "hidden", "options")
    found = {(*(row[key] for key in keys), *row["tiles"].values()) for row in rows}
    for case in cases():
        kind, configuration = "attention" if case.attends else "cell", case.configuration
        named = (kind, configuration.arithmetic, case.arch, case.hidden, case.options)
        assert (*named, *configuration.tiles) in found
    assert not [row for row in rows if beyond(row)]
