"""batched_lstm against torch.nn.LSTM and the float64 reference, forward and backward, over drawn shapes."""

from __future__ import annotations

import functools
from typing import Any, get_args

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from torch import Tensor, nn

from sgela_fast.ops import _lstm_cuda, _tape
from sgela_fast.ops.batched_lstm import batched_lstm
from sgela_fast.reference.batched_lstm import LSTMState
from tests.ops.lstm_cases import (
    ISAS,
    Case,
    assert_agree,
    bound,
    cases,
    draw,
    layers_of,
    named_gradients,
    needs_kernels,
    results_and_gradients,
    run_on_the_cpu,
    torch_lstms,
)

try:
    from sgela_fast import _C  # type: ignore[attr-defined]
except ImportError:
    _C = None

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
EXACT = [torch.float32, torch.float64]
drawn = functools.partial(settings, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
fused = functools.partial(batched_lstm, backend="fused")
reference = functools.partial(batched_lstm, backend="reference")


def agrees_with_the_reference(case: Case, device: str = "cpu", slack: float = 1.0) -> None:
    inputs = draw(case, device)
    options = {"dropout": case.dropout, "training": case.dropout > 0}
    ours = results_and_gradients(fused, inputs, case, **options)
    exact = results_and_gradients(reference, inputs.in_float64(), case, **options)
    assert_agree(ours, exact, slack * bound(case), terms=case.batch * case.steps)


def slack_of_products(case: Case) -> float:
    """With half precision h is rounded in every step, and so are the gates and their gradients."""
    return 1.0 if case.dtype in EXACT else 4.0 * (case.steps + 1)


def run_torch(lstms: list[nn.LSTM], x: Tensor, state: LSTMState | None, lengths: Tensor | None) -> Any:
    """The groups one after another, with packed sequences if there are lengths."""
    outputs, hidden, cells = [], [], []
    for g, lstm in enumerate(lstms):
        given = None if state is None else tuple(tensor[:, g].contiguous() for tensor in state)
        sequence: Any = x[g]
        if lengths is not None:
            pack = nn.utils.rnn.pack_padded_sequence
            sequence = pack(sequence, lengths, batch_first=True, enforce_sorted=False)
        output, (h, c) = lstm(sequence, given)
        if lengths is not None:
            unpack = nn.utils.rnn.pad_packed_sequence
            output, _ = unpack(output, batch_first=True, total_length=x.shape[2])
        outputs.append(output)
        hidden.append(h)
        cells.append(c)
    return torch.stack(outputs), (torch.stack(hidden, dim=1), torch.stack(cells, dim=1))


@needs_kernels
@drawn(max_examples=150)
@given(case=cases(EXACT).filter(lambda case: case.batch > 0))
def test_equals_independent_torch_lstms_in_values_and_gradients(case: Case) -> None:
    lstms, inputs = torch_lstms(case), draw(case)
    lengths = None if inputs.lengths is None else inputs.lengths.clamp(1, case.steps)
    leaves = {"input": inputs.input}
    leaves |= {} if inputs.state is None else {"h0": inputs.state.h, "c0": inputs.state.c}
    leaves |= {f"{name} of group {g}": p for g, lstm in enumerate(lstms) for name, p in lstm.named_parameters()}
    ours = fused(inputs.input, layers_of(lstms), inputs.state, lengths=lengths)
    theirs = run_torch(lstms, inputs.input, inputs.state, lengths)
    found = [named_gradients(result, leaves, case) for result in (ours, theirs)]
    assert_agree(*found, 2 * bound(case), terms=case.batch * case.steps)  # both are off by as much


@needs_kernels
@drawn(max_examples=200)
@given(case=cases(DTYPES))
@example(case=Case(groups=2, batch=282, steps=5, inputs=3, hidden=1, layers=2, dtype=torch.float32, seed=2432))
def test_equals_the_float64_reference(case: Case) -> None:
    agrees_with_the_reference(case)


@pytest.mark.parametrize("isa", ISAS)
@drawn(max_examples=50)
@given(case=cases(DTYPES))
def test_every_instruction_set_equals_the_float64_reference(isa: str, case: Case) -> None:
    _C.force_isa(isa)
    try:
        agrees_with_the_reference(case)
    finally:
        _C.force_isa("")


@drawn(max_examples=150)
@given(case=cases(DTYPES))
def test_batched_products_equal_the_float64_reference(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run_on_the_cpu(patch, "products")
        agrees_with_the_reference(case, slack=slack_of_products(case))


@drawn(max_examples=150)
@given(case=cases([dtype for dtype in DTYPES if dtype != torch.float64]))
def test_products_with_the_gate_kernel_equal_the_float64_reference(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run_on_the_cpu(patch, "gates")
        agrees_with_the_reference(case, slack=slack_of_products(case))


@pytest.mark.gpu
@pytest.mark.parametrize("path", ["auto", *get_args(_lstm_cuda.Path)])
@drawn(max_examples=100)
@given(case=cases(DTYPES))
def test_equals_the_float64_reference_on_the_gpu(path: Any, case: Case) -> None:
    if path != "auto":
        call = _lstm_cuda.Call(case.dtype, case.batch, case.dropout > 0 and case.layers > 1, "ieee")
        assume(_lstm_cuda.why_not(path, call, _lstm_cuda.machine_of(torch.device("cuda"))) is None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_lstm_cuda.VARIABLE, path)
        agrees_with_the_reference(case, "cuda", slack=slack_of_products(case))


@needs_kernels
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_gradients_are_those_of_finite_differences(lengths: bool, state: bool) -> None:
    inputs = draw(Case(groups=2, batch=2, steps=3, inputs=2, hidden=3, state=state, lengths=lengths))
    layers, count = len(inputs.weights), 2 if state else 0

    def run(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = LSTMState(*tensors[:2]) if state else None
        flat = tensors[count:]
        weights = [tuple(flat[3 * layer : 3 * layer + 3]) for layer in range(layers)]
        output, (h, c) = fused(x, weights, given, lengths=inputs.lengths)
        return output, h, c

    assert torch.autograd.gradcheck(run, inputs.leaves())


def test_a_tape_computed_anew_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(batch=30)
    kept = results_and_gradients(fused, draw(case), case)
    monkeypatch.setattr(_tape, "LIMIT_BYTES", 0)
    anew = results_and_gradients(fused, draw(case), case)
    assert kept.keys() == anew.keys()
    assert all(torch.equal(kept[name], anew[name]) for name in kept)
