"""What batched_lstm computes, as claims: on the compiled kernels, on batched products, and on the reference."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import _lstm_arguments
from sgela_fast.ops import batched_lstm as op
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from tests.ops.lstm_cases import (
    MISSING,
    Case,
    Inputs,
    draw,
    needs_kernels,
    results_and_gradients,
    run_on_the_cpu,
)

fused = functools.partial(op.batched_lstm, backend="fused")


@pytest.fixture(params=[pytest.param("compiled", marks=needs_kernels), "products", "reference"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The public function, running one of the three ways to compute on the CPU."""
    if request.param == "products":
        run_on_the_cpu(monkeypatch, "products")
    backend: Any = "reference" if request.param == "reference" else "fused"
    return functools.partial(op.batched_lstm, backend=backend)


def agree(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=0, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.skipif(
    not (os.environ.get("CI") or os.environ.get("SGELA_EXTENSION") == "1"), reason="the extension is optional here"
)
def test_the_compiled_kernels_are_there() -> None:
    assert op.why_not_fused("cpu", torch.float32) is None, MISSING


@needs_kernels
def test_auto_takes_the_kernels_on_the_cpu() -> None:
    assert all(op._use_fused(torch.zeros(1, dtype=dtype), "auto") for dtype in op._DTYPES)


def test_auto_does_not_take_what_no_gpu_has_run() -> None:
    assert "cuda" not in op._PROVEN


def permuted(inputs: Inputs, order: Tensor) -> Inputs:
    """The same LSTMs in another order of groups, as new leaves."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().requires_grad_()

    weights = [LSTMLayer(*(leaf(tensor[order]) for tensor in layer)) for layer in inputs.weights]
    state = None if inputs.state is None else LSTMState(*(leaf(tensor[:, order]) for tensor in inputs.state))
    return Inputs(leaf(inputs.input[order]), weights, state, inputs.lengths)


def test_permuting_groups_permutes_the_results(run: Callable[..., Any]) -> None:
    case = Case(groups=4, lengths=True, state=False)
    order = torch.tensor([2, 0, 3, 1])
    inputs = draw(case)
    output, (h, c) = run(inputs.input, inputs.weights, lengths=inputs.lengths)
    other = permuted(inputs, order)
    permuted_output, (permuted_h, permuted_c) = run(other.input, other.weights, lengths=other.lengths)
    torch.testing.assert_close(permuted_output, output[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(permuted_h, h[:, order], rtol=0, atol=1e-12)
    torch.testing.assert_close(permuted_c, c[:, order], rtol=0, atol=1e-12)


def test_windows_do_not_touch_each_other(run: Callable[..., Any]) -> None:
    inputs = draw(Case(batch=5))
    other = inputs.input.detach().clone()
    other[:, 2] += 1
    before, after = (run(x, inputs.weights, inputs.state).output for x in (inputs.input, other))
    rest = [0, 1, 3, 4]
    assert torch.equal(before[:, rest], after[:, rest])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_later_steps_do_not_reach_earlier_ones(run: Callable[..., Any]) -> None:
    inputs = draw(Case(steps=6))
    other = inputs.input.detach().clone()
    other[:, :, 4:] += 1
    before, after = (run(x, inputs.weights, inputs.state).output for x in (inputs.input, other))
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 4], after[:, :, 4])


def test_the_sequence_can_be_cut_in_two_with_the_state_handed_on(run: Callable[..., Any]) -> None:
    case = Case(steps=7)
    inputs = draw(case)

    def in_two(x: Tensor, weights: Any, state: Any, *, lengths: None) -> Any:
        first, between = run(x[:, :, :3], weights, state)
        second, final = run(x[:, :, 3:], weights, between)
        return torch.cat((first, second), dim=2), final

    agree(results_and_gradients(in_two, inputs, case), results_and_gradients(run, inputs, case))


def test_no_state_is_a_state_of_zeros(run: Callable[..., Any]) -> None:
    case = Case(state=False)
    inputs = draw(case)
    zeros = torch.zeros(case.layers, case.groups, case.batch, case.hidden, dtype=case.dtype)

    def from_zeros(x: Tensor, weights: Any, state: None, *, lengths: None) -> Any:
        return run(x, weights, (zeros, zeros))

    agree(results_and_gradients(from_zeros, inputs, case), results_and_gradients(run, inputs, case))


def test_what_lies_behind_the_end_changes_nothing_and_gets_no_gradient(run: Callable[..., Any]) -> None:
    case = Case(batch=3, steps=5)
    inputs = draw(case)._replace(lengths=torch.tensor([5, 2, 0]))
    other = inputs.input.detach().clone()
    other[:, 1, 2:] = 9
    other[:, 2] = -9
    ours = results_and_gradients(run, inputs, case)
    theirs = results_and_gradients(run, inputs._replace(input=other.requires_grad_()), case)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert not ours["gradient of input"][:, 1, 2:].any()
    assert not ours["output"][:, 1, 2:].any()
    assert not ours["gradient of input"][:, 2].any()


def test_a_sequence_without_steps_keeps_the_state_it_began_with(run: Callable[..., Any]) -> None:
    inputs = draw(Case(batch=2))
    assert inputs.state is not None
    for none in (0, -3):
        output, (h, c) = run(inputs.input, inputs.weights, inputs.state, lengths=torch.tensor([none, 4]))
        assert not output[:, 0].any()
        assert torch.equal(h[:, :, 0], inputs.state.h[:, :, 0])
        assert torch.equal(c[:, :, 0], inputs.state.c[:, :, 0])


def test_lengths_of_all_steps_or_more_equal_no_lengths(run: Callable[..., Any]) -> None:
    inputs = draw(Case(batch=2, steps=4))
    whole = run(inputs.input, inputs.weights).output
    for dtype in (torch.int64, torch.int32, torch.uint8):
        lengths = torch.tensor([4, 9], dtype=dtype)
        torch.testing.assert_close(run(inputs.input, inputs.weights, lengths=lengths).output, whole, rtol=0, atol=0)


def test_any_layout_of_the_input_gives_the_same_numbers(run: Callable[..., Any]) -> None:
    dense = draw(Case(layout="dense", state=False))
    expected = run(dense.input, dense.weights).output
    others = [draw(Case(layout=layout, state=False)).input for layout in ("steps first", "sliced")]
    by_features = dense.input.detach().mT.contiguous().mT
    assert by_features.stride(-1) != 1
    for x in (*others, by_features):
        assert torch.equal(x, dense.input)
        torch.testing.assert_close(run(x, dense.weights).output, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("unused", ["output", "h", "c"])
def test_a_result_that_is_not_used_costs_no_gradient(run: Callable[..., Any], unused: str) -> None:
    inputs = draw(Case())

    def total(function: Callable[..., Any]) -> Tensor:
        output, (h, c) = function(inputs.input, inputs.weights, inputs.state)
        used = {"output": output, "h": h, "c": c}
        del used[unused]
        return torch.stack([tensor.square().sum() for tensor in used.values()]).sum()

    ours = torch.autograd.grad(total(run), inputs.leaves())
    reference = functools.partial(op.batched_lstm, backend="reference")
    for gradient, exact in zip(ours, torch.autograd.grad(total(reference), inputs.leaves()), strict=True):
        torch.testing.assert_close(gradient, exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("frozen", ["input", "weights", "state"])
def test_gradients_are_the_same_whatever_else_needs_one(run: Callable[..., Any], frozen: str) -> None:
    case = Case()
    inputs = draw(case)
    whole = results_and_gradients(run, inputs, case)
    detached = inputs
    if frozen == "input":
        detached = inputs._replace(input=inputs.input.detach())
    elif frozen == "state":
        assert inputs.state is not None
        detached = inputs._replace(state=LSTMState(*(tensor.detach() for tensor in inputs.state)))
    else:
        detached = inputs._replace(weights=[LSTMLayer(*(t.detach() for t in layer)) for layer in inputs.weights])
    output, (h, c) = run(*detached[:3])
    generator = torch.Generator().manual_seed(case.seed)
    upstream = [torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in (output, h, c)]
    leaves = [tensor for tensor in detached.leaves() if tensor.requires_grad]
    gradients = torch.autograd.grad((output, h, c), leaves, upstream)
    names = [name for name in whole if name.startswith("gradient")]
    kept = [name for name, leaf in zip(names, detached.leaves(), strict=True) if leaf.requires_grad]
    agree(dict(zip(kept, gradients, strict=True)), {name: whole[name] for name in kept})


def test_dropout_is_reproducible_and_differs_from_call_to_call(run: Callable[..., Any]) -> None:
    inputs = draw(Case(hidden=20, layers=3))
    drop = functools.partial(run, inputs.input, inputs.weights, dropout=0.5, training=True)
    torch.manual_seed(5)
    first, second = drop().output, drop().output
    torch.manual_seed(5)
    assert torch.equal(drop().output, first)
    assert not torch.equal(first, second)


def test_dropout_is_off_outside_training_and_at_the_top(run: Callable[..., Any]) -> None:
    inputs = draw(Case(hidden=20, layers=2))
    plain = run(inputs.input, inputs.weights).output
    assert torch.equal(run(inputs.input, inputs.weights, dropout=0.5).output, plain)
    single = inputs.weights[:1]
    one = run(inputs.input, single, dropout=0.5, training=True).output
    assert torch.equal(one, run(inputs.input, single).output)
    assert one.all()


def test_dropping_everything_leaves_the_upper_layer_its_bias_alone(run: Callable[..., Any]) -> None:
    inputs = draw(Case(layers=2, state=False))
    dropped = run(inputs.input, inputs.weights, dropout=1.0, training=True).output
    upper = inputs.weights[1]
    nothing = torch.zeros(*inputs.input.shape[:3], upper.weight_ih.shape[-1], dtype=torch.float64)
    torch.testing.assert_close(dropped, run(nothing, [upper]).output, rtol=0, atol=1e-12)


def test_dropout_masks_are_right_in_expectation() -> None:
    masks = _lstm_arguments.draw_dropout_masks((400, 500), 0.3, torch.float32, torch.device("cpu"))
    values = masks.unique().tolist()
    assert values == [0.0, pytest.approx(1 / 0.7)]
    # 200,000 draws: a standard deviation of 0.0015.
    assert abs(float(masks.mean()) - 1) < 0.01
    assert abs(float(masks.mean(dim=0).std()) - (0.3 / 0.7 / 400) ** 0.5) < 0.005


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("groups", "batch"), [(3, 1), (1, 7), (3, 150), (2, 300)])
def test_one_thread_and_two_give_the_same_bits(dtype: torch.dtype, groups: int, batch: int) -> None:
    case = Case(groups=groups, batch=batch, hidden=33, dtype=dtype, lengths=True)
    inputs = draw(case)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results_and_gradients(fused, inputs, case)
        torch.set_num_threads(2)
        shared = results_and_gradients(fused, inputs, case)
    finally:
        torch.set_num_threads(before)
    for name, tensor in alone.items():
        assert torch.equal(tensor, shared[name]), name


def test_a_second_call_gives_the_same_bits(run: Callable[..., Any]) -> None:
    case = Case(dtype=torch.float32, batch=40, hidden=20)
    inputs = draw(case)
    first, second = (results_and_gradients(run, inputs, case) for _ in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@needs_kernels
def test_results_do_not_depend_on_whether_a_gradient_is_needed() -> None:
    inputs = draw(Case(dtype=torch.float32, batch=40, hidden=20))
    with_tape = fused(*inputs[:3])
    with torch.no_grad():
        without = fused(*inputs[:3])
    assert torch.equal(with_tape.output, without.output)
    assert torch.equal(with_tape.state.c, without.state.c)


@needs_kernels
def test_nothing_is_left_unwritten(poisoned_outputs: None) -> None:
    for lengths in (False, True):
        case = Case(dtype=torch.float32, lengths=lengths, hidden=9)
        assert all(tensor.isfinite().all() for tensor in results_and_gradients(fused, draw(case), case).values())
