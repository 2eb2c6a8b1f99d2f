"""Every configuration of the Triton kernels that can be chosen compiles for sm_80 and sm_90, within its budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import triton

from sgela_fast.benchmarks.triton_compiled import REGISTER_LIMIT, SHARED_LIMIT
from sgela_fast.kernels.locality_attention_tuning import all_configurations

# Bytes of a thread in local memory: none, but the assembler that comes with older compilers sets two registers aside in
# some kernels.
SPILL_LIMIT = 0 if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9) else 8
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The report, made by a process of its own: in this one the kernels may be the interpreter's."""
    folder = tmp_path_factory.mktemp("report")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    module = "benchmarks.triton_compile_report"
    command = [sys.executable, "-m", module, "--cached", "--processes", "2", "--output", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads((folder / "triton_compile_report.json").read_text())["rows"]
    return found


def test_every_configuration_was_compiled_for_both_architectures(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 2 * len(list(all_configurations()))
    assert {row["arch"] for row in rows} == {80, 90}


def test_registers_suffice(rows: list[dict[str, Any]]) -> None:
    assert not [row for row in rows if row["spilled"] > SPILL_LIMIT]
    assert max(row["registers"] for row in rows) <= REGISTER_LIMIT


def test_shared_memory_fits_the_device(rows: list[dict[str, Any]]) -> None:
    assert not [row for row in rows if row["shared"] > SHARED_LIMIT[row["arch"]]]


def test_short_sequences_are_read_and_written_sixteen_bytes_at_a_time(rows: list[dict[str, Any]]) -> None:
    # A warp that shares its sequence with another one, or holds keys and two gradients, takes fewer features at once:
    # eight bytes of a half type.
    short = [row for row in rows if row["kernel"].startswith("rows_")]
    narrow = [row for row in short if min(row["load_bits"], row["store_bits"]) < 128]
    assert short
    crowded = [row for row in narrow if row["kernel"] == "rows_backward" and row["values"] == "separate"]
    assert not [row for row in narrow if row["dtype"] == "float32"]
    assert not [row for row in narrow if row["tiles"]["num_warps"] == 1 and row not in crowded]
    assert not [row for row in narrow if min(row["load_bits"], row["store_bits"]) < 64]


def test_long_sequences_use_the_matrix_units(rows: list[dict[str, Any]]) -> None:
    long = [row for row in rows if row["kernel"].startswith("tiles_") and row["dtype"] == "bfloat16"]
    assert {row["matrix"] for row in long if row["arch"] == 80} == {"mma"}
    assert {row["matrix"] for row in long if row["arch"] == 90} == {"wgmma"}
