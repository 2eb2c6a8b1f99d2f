"""The Triton kernels of `batched_lstm` against the float64 reference: interpreted here, and on a GPU where one is.

Cases are small, because the interpreter runs programs one after another; it says nothing about races or about the
precision of matrix units, which is why the same tests run on a device where there is one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import _lstm_products as products
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState, batched_lstm

pytest.importorskip("triton")

from sgela_fast.kernels import batched_lstm as kernels
from sgela_fast.kernels import batched_lstm_launch as launches
from sgela_fast.kernels.batched_lstm_tuning import (
    Tiles,
)
from sgela_fast.kernels.launch import Launch

# Largest error over the largest entry. Half types round the operands of every step's products and the results.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 4e-3, torch.bfloat16: 2.4e-2}

poisoned = pytest.mark.usefixtures("poisoned_outputs")


class Problem(NamedTuple):
    """Inputs of the op, and gradients of its results."""

    input: Tensor
    weights: list[Tensor]
    h0: Tensor | None
    c0: Tensor | None
    lengths: Tensor | None
    gradients: Any  # of output, h_n and c_n


def problem(
    device: torch.device,
    groups: int = 2,
    batch: int = 3,
    steps: int = 3,
    inputs: int = 5,
    hidden: int = 9,
    layers: int = 2,
    *,
    states: bool = False,
    lengths: list[int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape) * scale).to(device, dtype)

    weights = []
    for layer in range(layers):
        width = inputs if layer == 0 else hidden
        weights += [draw(groups, 4 * hidden, size, scale=size**-0.5) for size in (width, hidden)]
        weights.append(draw(groups, 4 * hidden))
    state = (layers, groups, batch, hidden)
    return Problem(
        draw(groups, batch, steps, inputs),
        weights,
        draw(*state).tanh() if states else None,
        draw(*state) if states else None,
        None if lengths is None else torch.tensor(lengths, device=device),
        (draw(groups, batch, steps, hidden), draw(*state), draw(*state)),
    )


def backwards(backward: Any, p: Problem, output: Tensor, tape: Tensor, **options: Any) -> list[Tensor]:
    """Gradients of input, h0, c0 and weights by a backward of the op's signature."""
    *three, weights = backward(*p.gradients, p.input, p.weights, *p[2:5], None, output, tape, **options)
    return [*three, *weights]


def run(p: Problem, *, keep_tape: bool = True, **options: Any) -> dict[str, Tensor]:
    """Everything the kernels give for a problem, without the tensors that stand for nothing."""
    output, h_n, c_n, tape = kernels.forward(p.input, p.weights, None, *p[2:5], None, keep_tape, **options)
    assert (tape.numel() > 0) == (keep_tape and output.numel() > 0)
    grad_input, grad_h0, grad_c0, *grad_weights = backwards(kernels.backward, p, output, tape, **options)
    initial = {"grad_h0": grad_h0, "grad_c0": grad_c0} if p.h0 is not None else {}
    found = {"output": output, "h_n": h_n, "c_n": c_n, "grad_input": grad_input, **initial}
    return found | {f"grad_weights[{i}]": gradient for i, gradient in enumerate(grad_weights)}


def expected(p: Problem) -> dict[str, Tensor]:
    """The same by the reference and autograd in float64."""
    x, *weights = (tensor.detach().double().requires_grad_() for tensor in (p.input, *p.weights))
    initial = [state.detach().double().requires_grad_() for state in (p.h0, p.c0) if state is not None]
    layers = [LSTMLayer(*weights[first : first + 3]) for first in range(0, len(weights), 3)]
    state = LSTMState(*initial) if initial else None
    output, (h_n, c_n) = batched_lstm(x, layers, state, lengths=p.lengths)
    results = (output, h_n, c_n)
    pairs = [(r, g) for r, g in zip(results, p.gradients, strict=True) if g is not None]
    total = torch.stack([(r * g.double()).sum() for r, g in pairs]).sum()
    gradients = torch.autograd.grad(total, [x, *initial, *weights], allow_unused=True, materialize_grads=True)
    names = ["grad_input", *(["grad_h0", "grad_c0"] if initial else [])]
    names += [f"grad_weights[{i}]" for i in range(len(weights))]
    return dict(zip(("output", "h_n", "c_n"), results, strict=True)) | dict(zip(names, gradients, strict=True))


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        if value.numel() == 0:
            continue
        error, size = (found[name].double() - value).detach().abs().max(), value.detach().abs().max()
        assert error <= tolerance * size + 1e-7, f"{name}: {float(error):.2e} of {float(size):.2e}"


@poisoned
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((1, 1, 1, 1, 1, 1), {}),
        ((2, 3, 3, 5, 9, 2), {"states": True, "lengths": [3, 1, 2]}),
        ((1, 18, 2, 20, 17, 3), {}),
        ((1, 2, 2, 37, 6, 1), {"lengths": [2, 1]}),
        ((1, 2, 2, 3, 40, 2), {"states": True}),
    ],
    ids=["ones", "states, lengths", "three layers", "wide input", "wide state"],
)
def test_results_and_gradients_equal_the_reference(
    device: torch.device, sizes: tuple[int, ...], options: dict[str, Any]
) -> None:
    p = problem(device, *sizes, **options)
    assert_close(run(p), expected(p), TOLERANCE[torch.float32])


@poisoned
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_lose_only_the_digits_of_the_type(device: torch.device, dtype: torch.dtype) -> None:
    p = problem(device, 1, 3, 2, 5, 20, 2, states=True, dtype=dtype)
    found = run(p)
    assert all(tensor.dtype == dtype for tensor in found.values())
    assert_close(found, expected(p), TOLERANCE[dtype])


@poisoned
def test_batches_and_units_that_do_not_fill_their_tiles_are_whole(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "choose_tiles", lambda *_: Tiles(16, 16, 16, 2, 2))
    p = problem(device, 1, 19, 2, 3, 21, 2, states=True, lengths=[2, 1] * 9 + [2])
    assert_close(run(p), expected(p), TOLERANCE[torch.float32])


@poisoned
@pytest.mark.parametrize("states", [False, True])
def test_rows_without_steps_keep_their_state_and_long_lengths_count_as_all_steps(
    device: torch.device, states: bool
) -> None:
    p = problem(device, 1, 4, 2, 3, 4, 2, states=states, lengths=[0, -3, 1, 9])
    found = run(p)
    assert_close(found, expected(p), TOLERANCE[torch.float32])
    for name, first in (("h_n", p.h0), ("c_n", p.c0)):
        before = torch.zeros_like(found[name]) if first is None else first
        assert torch.equal(found[name][:, :, :2], before[:, :, :2])
    assert torch.all(found["output"][:, :2] == 0)


@poisoned
def test_groups_may_have_lengths_of_their_own(device: torch.device) -> None:
    p = problem(device, 2, 2, 3, lengths=[3, 1])
    lengths = torch.tensor([[3, 1], [2, 3]], device=device)
    found = run(p._replace(lengths=lengths))
    assert_close(found, expected(p._replace(lengths=lengths)), TOLERANCE[torch.float32])


@poisoned
def test_any_strides_of_the_leading_dimensions_are_read_in_place(device: torch.device) -> None:
    p = problem(device, states=True)
    time_major = p.input.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3)
    ones = torch.ones((), device=device)
    shapes = [gradient.shape for gradient in p.gradients if gradient is not None]
    strided = p._replace(input=time_major, gradients=tuple(ones.expand(shape) for shape in shapes))
    compact = p._replace(gradients=tuple(ones.expand(shape).contiguous() for shape in shapes))
    found, wanted = run(strided), run(compact)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(tensor.is_contiguous() for tensor in found.values())


@poisoned
def test_a_tape_that_was_not_kept_is_computed_again(device: torch.device) -> None:
    p = problem(device, states=True, lengths=[3, 1, 2])
    kept, again = run(p), run(p, keep_tape=False)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@poisoned
@pytest.mark.parametrize("given", [0, 1, 2])
def test_gradients_that_are_not_given_count_as_zeros(device: torch.device, given: int) -> None:
    p = problem(device, 1, 2, 2)
    gradients = [gradient if i == given else None for i, gradient in enumerate(p.gradients)]
    zeros = [gradient if i == given else torch.zeros_like(gradient) for i, gradient in enumerate(p.gradients)]
    found, wanted = run(p._replace(gradients=tuple(gradients))), run(p._replace(gradients=tuple(zeros)))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@poisoned
def test_one_tape_serves_the_kernels_and_the_batched_products(device: torch.device) -> None:
    p = problem(device, states=True)
    ours = kernels.forward(p.input, p.weights, None, *p[2:5], None, True)
    theirs = products.forward(p.input, p.weights, None, *p[2:5], None, True)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    by_products = backwards(products.backward, p, ours[0], ours[3])
    by_kernels = backwards(kernels.backward, p, theirs[0], theirs[3])
    for found, wanted in zip(by_kernels, by_products, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@poisoned
def test_results_are_equal_bit_for_bit_on_repeat(device: torch.device) -> None:
    p = problem(device, states=True, lengths=[3, 1, 2])
    first, second = run(p), run(p)
    assert all(torch.equal(first[name], second[name]) for name in first)


@poisoned
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_programs_of_a_launch_may_run_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Run backwards, a program that reads what another of its launch has written gives other results.
    from triton.runtime.interpreter import interpreter_builder as builder

    monkeypatch.setattr(launches, "choose_tiles", lambda *_: Tiles(16, 16, 32, 2, 2))
    p = problem(torch.device("cpu"), 1, 3, 3, 3, 18, 2, states=True)
    forwards = run(p)
    place = builder.set_grid_idx
    monkeypatch.setattr(builder, "set_grid_idx", lambda x, y, z: place(builder.grid_dim[0] - 1 - x, y, z))
    backwards = run(p)
    assert all(torch.equal(forwards[name], backwards[name]) for name in forwards)


@poisoned
def test_no_windows_give_empty_results_and_zero_gradients_of_weights(device: torch.device) -> None:
    p = problem(device, batch=0, states=True)
    assert_close(run(p), expected(p), 0)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # the interpreter's; infinity is what is meant
def test_extreme_pre_activations_saturate_without_nan(device: torch.device) -> None:
    p = problem(device, 1, 2, 2, 3, 4, 1)
    found = run(p._replace(weights=[1e6 * weight for weight in p.weights]))
    assert found["output"].isfinite().all()
    assert found["output"].abs().max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.zeros(2, 3, 3, 4)}, r"weights\[0\] has shape"),
        ({"input": torch.zeros(2, 3, 5, 3).mT}, "input has stride 3"),
        ({"input": torch.zeros(2, 3, 3, 5, dtype=torch.float64)}, "input is torch.float64"),
        ({"input": torch.zeros(2, 3, 0, 5)}, "one step or more"),
        ({"weights": []}, "three a layer"),
        ({"h0": torch.zeros(1, 2, 3, 9)}, "h0 has shape"),
        ({"lengths": torch.ones(4, dtype=torch.int64)}, "lengths has shape"),
        ({"lengths": torch.ones(3, dtype=torch.int32)}, "lengths is torch.int32"),
    ],
)
def test_what_would_read_out_of_bounds_is_refused(change: dict[str, Any], message: str) -> None:
    p = problem(torch.device("cpu"))._replace(**change)
    with pytest.raises(ValueError, match=message):
        kernels.forward(p.input, p.weights, None, *p[2:5], None, False)


def test_dropout_and_foreign_tapes_are_refused() -> None:
    p = problem(torch.device("cpu"))
    with pytest.raises(ValueError, match="dropout_masks must be None"):
        kernels.forward(p.input, p.weights, None, None, None, None, torch.ones(1, 2, 3, 3, 9), False)
    with pytest.raises(ValueError, match="tape has 7 elements"):
        kernels.backward(None, None, None, p.input, p.weights, None, None, None, None, p.input, torch.zeros(7))


def planned(steps: int, layers: int, batch: int = 5) -> tuple[launches.Problem, list[Launch]]:
    """A problem without memory and its forward launches."""
    p = problem(torch.device("meta"), 3, batch, steps, 20, 32, layers)
    stacked = launches.Problem(p.input, launches.stack_weights(p.weights), layers, None, None, None, "ieee")
    output = torch.empty(3, batch, steps, 32, device="meta")
    states = launches.States(output, output, output, output, None)
    return stacked, list(launches.plan_forward(stacked, states))


@pytest.mark.parametrize(("steps", "layers"), [(6, 2), (1, 1), (1, 3), (4, 1), (2, 5)])
def test_every_layer_computes_every_step_once_and_after_what_it_needs(steps: int, layers: int) -> None:
    stacked, forward = planned(steps, layers)
    gates = torch.empty(layers, 3, 5, steps, 128, device="meta")
    gradients = launches.Gradients(gates, None, None, None, gates, gates)
    backward = list(launches.plan_backward(stacked, gradients))
    assert len(forward) == len(backward) == steps + layers - 1
    cell = {}
    for reverse, plan in ((False, forward), (True, backward)):
        done: Counter[tuple[int, int]] = Counter()
        for launch in plan:
            phase, top = launch.arguments["phase"], launch.arguments["top_layer"]
            programs = 3 * -(-5 // launch.arguments["BLOCK_M"]) * -(-32 // launch.arguments["BLOCK_H"])
            at_work, rest = divmod(launch.programs, programs)
            assert rest == 0
            started = set(done)
            for layer in range(top - at_work + 1, top + 1):
                step = steps - 1 - phase + (layers - 1 - layer) if reverse else phase - layer
                needs = {(layer + 1, step), (layer, step + 1)} if reverse else {(layer - 1, step), (layer, step - 1)}
                real = {(i, t) for i, t in needs if 0 <= i < layers and 0 <= t < steps}
                assert real <= started
                done[layer, step] += 1
        cell[reverse] = done
    assert cell[False] == cell[True] == Counter({(i, t): 1 for i in range(layers) for t in range(steps)})


def test_six_steps_of_two_layers_are_seven_launches() -> None:
    assert len(planned(6, 2)[1]) == 7


def test_weights_of_two_layers_are_not_copied() -> None:
    weights = problem(torch.device("cpu")).weights
    stacked = launches.stack_weights(weights)
    given = {weight.data_ptr() for weight in weights}
    assert {tensor.data_ptr() for tensor in stacked} == given


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32x3", 3e-6), ("tf32", 4e-3)])
def test_matrix_units_keep_the_digits_that_their_precision_promises(precision: str, tolerance: float) -> None:
    p = problem(torch.device("cuda"), 3, 70, 6, 20, 256, 2, states=True)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    found = run(p, precision=precision)
    torch.backends.cuda.matmul.fp32_precision = before
    assert_close(found, expected(p), tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [5, 70, 3000])
def test_every_tile_equals_the_reference_at_the_encoders_sizes(dtype: torch.dtype, batch: int) -> None:
    p = problem(torch.device("cuda"), 3, batch, 6, 20, 256, 2, dtype=dtype)
    found, wanted = run(p, precision="ieee"), expected(p)
    assert_close(found, wanted, 4 * TOLERANCE[dtype])
    untaped = kernels.forward(p.input, p.weights, None, None, None, None, None, False, precision="ieee")
    assert_close({"output": untaped[0]}, {"output": wanted["output"]}, 4 * TOLERANCE[dtype])


@pytest.mark.gpu
def test_a_cuda_graph_repeats_forward_and_backward() -> None:
    p = problem(torch.device("cuda"), 3, 33, 4, 20, 64, 2, states=True)
    wanted = run(p)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run(p)
    p.input.neg_()
    graph.replay()
    p.input.neg_()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
