"""The compilations of the Triton kernels of attention_decoder: every configuration that can be chosen, without a GPU.

    TRITON_INTERPRET=0 python -m benchmarks.triton_compile_decoder [--archs 80 90] [--few] [--json | --output FOLDER]

prints what the compiler made of each: registers of a thread, bytes spilled, shared memory, matrix instructions, widest
accesses; or writes it to ``triton_compile_decoder.json`` and ``.md``. With ``--few`` those of K = 256 in half
precision and exact float32 alone, which the tests compile. How it is measured stands in ``triton_compiled.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import triton
from torch import Tensor

from sgela_fast.benchmarks import triton_compiled as compiled
from sgela_fast.kernels import attention_decoder_launch as launches
from sgela_fast.kernels.attention_decoder_tuning import (
    AttentionConfiguration,
    CellConfiguration,
    all_attention_configurations,
    all_cell_configurations,
)
from sgela_fast.kernels.launch import Launch
from sgela_fast.kernels.locality_attention_launch import LAS

JOINTS, KEYS, STEPS = 20, 6, 6


class Spill(NamedTuple):
    """Bytes of local memory that a configuration may take although the others take none."""

    bytes: int
    reason: str


_WIDE = Spill(
    192, "state, context and key of 16 windows are 96 of a thread's 128 registers; a product has no fewer rows"
)
# By kernel, arithmetic, and hidden units of a program (of attention) or of a tile.
SPILLS: Mapping[tuple[str, str, int], Spill] = {
    ("attention", "ieee", 1024): _WIDE,
    ("attention", "tf32x3", 1024): _WIDE,
    ("attention", "ieee", 256): Spill(8, "sm_90, 16 windows, without separate keys"),
    ("cell", "ieee", 32): Spill(24, "odd K on sm_80 with a teacher and all states kept: an address for each element"),
    ("cell", "tf32x3", 16): Spill(8, "sm_80 with a teacher and all states kept; none for contexts alone"),
}


class Case(NamedTuple):
    """One compilation: with teacher, key matrix and all outputs, or with feedback, no key matrix and contexts alone."""

    configuration: CellConfiguration | AttentionConfiguration
    arch: int
    options: bool

    @property
    def attends(self) -> bool:
        """Whether it is the attention kernel."""
        return isinstance(self.configuration, AttentionConfiguration)

    @property
    def hidden(self) -> int:
        """Hidden units: of a width that takes the configuration, a multiple of 16 or odd."""
        tiles = self.configuration.tiles
        width: int = tiles[1] if self.attends else 256
        return width if self.configuration.aligned else width - 3


def cases(archs: Sequence[int] = compiled.ARCHS, few: bool = False) -> Iterator[Case]:
    """Every configuration for every architecture with all options, those of K = 256 also without; or few of them."""
    for arch in archs:
        configurations: list[CellConfiguration | AttentionConfiguration] = [*all_cell_configurations(arch)]
        configurations += all_attention_configurations()
        for configuration in configurations:
            case = Case(configuration, arch, True)
            common = configuration.aligned and case.hidden == 256 and configuration.arithmetic in ("half", "ieee")
            if few and not common:
                continue
            yield case
            if not few and configuration.aligned and case.hidden == 256:
                yield case._replace(options=False)


def launch_of(case: Case) -> Launch:
    """The launch that compiles to the case, of tensors without memory."""
    configuration, hidden = case.configuration, case.hidden
    arithmetic = configuration.arithmetic
    dtype = torch.bfloat16 if arithmetic == "half" else torch.float32

    def tensor(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    groups, batch, layers = 3, 1000, 2
    bottom, square = (groups, 4 * hidden, JOINTS + hidden), (groups, 4 * hidden, hidden)
    encoded, state = tensor(groups, batch, KEYS, hidden), tensor(layers, groups, batch, hidden)
    weights = launches.prepare(
        [tensor(*bottom), *[tensor(*square)] * 3],
        [tensor(groups, 4 * hidden)] * 2,
        None,
        tensor(groups, hidden, 2 * hidden),
        tensor(groups, JOINTS, hidden),
        tensor(groups, JOINTS),
        feedback=not case.options,
    )
    precision: Any = None if arithmetic == "half" else arithmetic
    cells = tensor(layers, groups, batch, hidden, dtype=torch.float32)
    problem = launches.Problem(
        encoded, tensor(*encoded.shape) if case.options else encoded, state, cells, weights,
        tensor(groups, batch, STEPS, JOINTS) if case.options else None, STEPS, LAS, -1, 3.0, None, True, precision,
    )  # fmt: skip
    buffers = launches.Buffers(
        tensor(layers, groups, batch, STEPS, hidden),
        tensor(layers, groups, batch, STEPS, hidden) if case.options else None,
        cells,
        tensor(groups, batch, STEPS, hidden),
        tensor(groups, batch, STEPS, hidden),
        tensor(groups, batch, STEPS, KEYS, dtype=torch.float32) if case.options else None,
        tensor(groups, batch, dtype=torch.float32),
    )
    name = "choose_attention_tiles" if case.attends else "choose_cell_tiles"
    with patch.object(launches, name, lambda *_: configuration.tiles):
        if case.attends:
            return launches.plan_attention(problem, buffers, 1)
        return launches.plan_cell(problem, buffers, 1, 0)


def compile_case(case: Case) -> dict[str, Any]:
    """What the compiler made of a case."""
    return {
        "kernel": "attention" if case.attends else "cell",
        "arithmetic": case.configuration.arithmetic,
        "arch": case.arch,
        "hidden": case.hidden,
        "options": case.options,
        "tiles": case.configuration.tiles._asdict(),
        **compiled.measures_of(launch_of(case), case.arch),
    }


def beyond(row: Mapping[str, Any]) -> list[str]:
    """What a row takes more of than it may: registers, spilled, shared."""
    width = row["tiles"].get("block_k", row["tiles"].get("block_h"))
    allowed = SPILLS.get((row["kernel"], row["arithmetic"], width))
    return compiled.beyond(row, 0 if allowed is None else allowed.bytes)


def as_markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The report as lines of Markdown."""
    return [
        f"# Triton kernels of attention_decoder, compiled ahead of time (triton {triton.__version__})",
        "",
        "Made by `python -m benchmarks.triton_compile_decoder --output benchmarks/results`; no GPU is involved.",
        "Registers are of a thread, spilled and shared are bytes, loads and stores the widest in bits. Seconds near 0",
        "are those of the compiler's cache.",
        "",
        *compiled.table_of(rows, ("kernel", "arithmetic", "arch", "hidden", "options", "tiles")),
    ]


def main() -> None:
    """Compile, and print or write."""
    parser = compiled.argument_parser(__doc__)
    parser.add_argument("--few", action="store_true", help="the configurations that the tests compile")
    parser.add_argument("--output", type=Path, help="folder to write the report to")
    arguments = parser.parse_args()
    rows = []
    for case in cases(arguments.archs, arguments.few):
        row = compile_case(case)
        rows.append(row)
        compiled.print_row(row, arguments.json, beyond=beyond(row))
    if arguments.output:
        compiled.write_report(arguments.output, "triton_compile_decoder", rows, as_markdown(rows))


if __name__ == "__main__":
    main()
