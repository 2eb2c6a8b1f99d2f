"""Which of three ways batched_lstm runs on a CUDA device. No GPU has run any of them yet.

``phases``    Triton kernels with the gates in the products' epilogue, T + L - 1 launches each way
              (``kernels/batched_lstm.py``). No dropout, no float64; GPUs from compute capability 8.0 on.
``gates``     torch's batched products, and one launch of the gate kernel between two of them (``_lstm_gates.py``). No
              float64; only where the extension was built with CUDA.
``products``  torch's batched products and torch's gates (``_lstm_products.py``). Always.

Unless SGELA_FAST_LSTM_PATH names one of them, :func:`choose` takes the first that can run, in this order, with one
exception. Triton computes exact (``ieee``) float32 products on the plain units at a third to a half of the rate of
torch's library, which for a large batch costs more than the traffic of gates between products: there ``gates`` comes
first. All of this follows from counting (``benchmarks/NOTES.md``), not from timing.

The three keep one tape, so that each can run backward from what another one has run forward.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sgela_fast.ops import _library

Path = Literal["phases", "gates", "products"]
VARIABLE = "SGELA_FAST_LSTM_PATH"
# Windows of a group from which exact float32 products are left to torch's library.
MANY_WINDOWS = 512
_MODULES: dict[Path, str] = {
    "phases": "sgela_fast.kernels.batched_lstm",
    "gates": "sgela_fast.ops._lstm_gates",
    "products": "sgela_fast.ops._lstm_products",
}


class Call(NamedTuple):
    """What the choice depends on: dtype and windows a group, whether there is dropout, precision of float32 products.

    Without Triton the precision is that of torch's products, and does not matter.
    """

    dtype: torch.dtype
    batch: int
    dropout: bool
    precision: str


class Machine(NamedTuple):
    """What there is: Triton, the compiled gate kernel; the compute capability, times ten."""

    triton: bool
    gate_kernel: bool
    capability: int


def why_not(path: Path, call: Call, machine: Machine) -> str | None:
    """Why a path cannot serve a call, or ``None`` if it can."""
    if path == "products":
        return None
    if call.dtype == torch.float64:
        return "it has no float64"
    if path == "gates":
        return None if machine.gate_kernel else "the extension was built without CUDA"
    if not machine.triton:
        return "triton is not installed"
    if machine.capability < 80:
        return f"it needs compute capability 8.0, and the device has {machine.capability / 10}"
    return "it has no dropout between layers" if call.dropout else None


def choose(call: Call, machine: Machine) -> Path:
    """The path of a call that nobody forces."""
    paths: tuple[Path, ...] = get_args(Path)
    if call.dtype == torch.float32 and call.precision == "ieee" and call.batch >= MANY_WINDOWS:
        paths = ("gates", "phases", "products")
    return next(path for path in paths if why_not(path, call, machine) is None)


def chosen_path(call: Call, machine: Machine) -> Path:
    """The path that SGELA_FAST_LSTM_PATH names, or :func:`choose`'s.

    Raises:
        ValueError: the environment variable holds something else than a path or ``auto``.
        RuntimeError: the path that it names cannot serve the call.
    """
    forced = os.environ.get(VARIABLE, "auto")
    if forced == "auto":
        return choose(call, machine)
    for path in get_args(Path):
        if forced == path:
            missing = why_not(path, call, machine)
            if missing is not None:
                raise RuntimeError(f"{VARIABLE} is {forced!r}, but {missing}; choose another one or auto")
            return path
    raise ValueError(f"{VARIABLE} is {forced!r}; choose phases, gates, products or auto")


def machine_of(device: torch.device) -> Machine:
    """What can run for tensors on ``device``. A CPU counts as a device that can do everything, for tests."""
    capability = 90
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        capability = 10 * major + minor
    kernel = importlib.import_module("sgela_fast.kernels.batched_lstm_gates")
    return Machine(_library.WHY_NO_TRITON is None, kernel.available(), capability)


def forward(
    input: Tensor,
    weights: list[Tensor],
    packed: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    dropout_masks: Tensor | None,
    save_tape: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The op's forward pass on CUDA devices; arguments and results as in its schema."""
    run = _implementation("forward", input, dropout_masks)
    results: tuple[Tensor, Tensor, Tensor, Tensor] = run(
        input, weights, packed, h0, c0, lengths, dropout_masks, save_tape
    )
    return results


def backward(
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    input: Tensor,
    weights: list[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    dropout_masks: Tensor | None,
    output: Tensor,
    tape: Tensor,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The op's backward pass on CUDA devices; arguments and results as in its schema."""
    run = _implementation("backward", input, dropout_masks)
    results: tuple[Tensor, Tensor, Tensor, list[Tensor]] = run(
        grad_output, grad_h_n, grad_c_n, input, weights, h0, c0, lengths, dropout_masks, output, tape
    )
    return results


def _implementation(name: str, input: Tensor, dropout_masks: Tensor | None) -> Any:
    machine, precision = machine_of(input.device), "ieee"
    if machine.triton and input.dtype == torch.float32:
        precision = importlib.import_module("sgela_fast.kernels.launch").default_precision()
    call = Call(input.dtype, input.shape[1], dropout_masks is not None, precision)
    return getattr(importlib.import_module(_MODULES[chosen_path(call, machine)]), name)
