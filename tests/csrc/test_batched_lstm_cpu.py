"""The CPU kernels of batched_lstm, called as the op calls them: every instruction set that runs here."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState, batched_lstm

extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")
pytestmark = pytest.mark.usefixtures("poisoned_memory")

importlib.import_module("sgela_fast.ops.batched_lstm")  # defines the schemas

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 3e-2}


class Case(NamedTuple):
    """Shape of one call, and which optional arguments it has."""

    groups: int
    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int
    states: bool = False
    lengths: bool = False
    dropout: bool = False


# Below, at and above tiles, vectors and blocks; few and many windows; chunks of steps that do not divide the sequence.
CASES = [
    Case(1, 1, 1, 1, 1, 1),
    Case(3, 1, 6, 20, 32, 2),
    Case(2, 3, 5, 7, 9, 2, states=True),
    Case(2, 30, 3, 3, 17, 2, lengths=True),
    Case(1, 75, 4, 20, 16, 3, states=True, lengths=True, dropout=True),
    Case(5, 2, 40, 4, 5, 1, lengths=True, states=True),
    Case(1, 8, 201, 2, 3, 2, dropout=True),
    Case(1, 26, 61, 5, 33, 1, states=True),
    Case(1, 130, 30, 2, 4, 1),
    Case(2, 0, 3, 2, 4, 2, states=True),
]


class Arguments(NamedTuple):
    """Everything a call takes."""

    input: Tensor
    weights: list[Tensor]
    h0: Tensor | None
    c0: Tensor | None
    lengths: Tensor | None
    masks: Tensor | None

    def to(self, dtype: torch.dtype) -> Arguments:
        def cast(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.detach().to(dtype)

        weights = [weight.detach().to(dtype) for weight in self.weights]
        input = self.input.detach().to(dtype)
        return Arguments(input, weights, cast(self.h0), cast(self.c0), self.lengths, cast(self.masks))

    def leaves(self) -> list[Tensor]:
        return [self.input, *self.weights, *(t for t in (self.h0, self.c0) if t is not None)]


@pytest.fixture(params=extension.build_info()["isas"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    extension.force_isa(request.param)
    yield str(request.param)
    extension.force_isa("")


def draw(case: Case) -> Arguments:
    groups, batch, steps, inputs, hidden, layers = case[:6]
    rows = 4 * hidden
    shapes = [[(rows, hidden if layer else inputs), (rows, hidden), (rows,)] for layer in range(layers)]
    weights = [torch.randn(groups, *shape, dtype=torch.float64) * hidden**-0.5 for shape in itertools.chain(*shapes)]
    state = (layers, groups, batch, hidden)
    mask = (torch.rand(layers - 1, groups, batch, steps, hidden, dtype=torch.float64) > 0.3) / 0.7
    return Arguments(
        torch.randn(groups, batch, steps, inputs, dtype=torch.float64),
        weights,
        torch.randn(state, dtype=torch.float64) if case.states else None,
        torch.randn(state, dtype=torch.float64) if case.states else None,
        torch.randint(1, steps + 1, (batch,)) if case.lengths else None,
        mask if case.dropout else None,
    )


def forward(it: Arguments, packed: Tensor | None = None, save_tape: bool = True) -> Any:
    run = torch.ops.sgela_fast.batched_lstm.default
    return run(it.input, it.weights, packed, it.h0, it.c0, it.lengths, it.masks, save_tape)


def backward(it: Arguments, gradients: list[Tensor | None], output: Tensor, tape: Tensor) -> list[Tensor]:
    run = torch.ops.sgela_fast.batched_lstm_backward.default
    states = (it.h0, it.c0, it.lengths, it.masks)
    grad_input, grad_h0, grad_c0, grad_weights = run(*gradients, it.input, it.weights, *states, output, tape)
    return [grad_input, *grad_weights, *([grad_h0, grad_c0] if it.h0 is not None else [])]


def reference(it: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Layer by layer, so that dropout can stand between the layers."""
    sequence, h, c = it.input, [], []
    layers = [LSTMLayer(*it.weights[i : i + 3]) for i in range(0, len(it.weights), 3)]
    for i, layer in enumerate(layers):
        initial = LSTMState(it.h0[i : i + 1], it.c0[i : i + 1]) if it.h0 is not None and it.c0 is not None else None
        sequence, state = batched_lstm(sequence, [layer], initial, lengths=it.lengths)
        h.append(state.h)
        c.append(state.c)
        if it.masks is not None and i + 1 < len(layers):
            sequence = sequence * it.masks[i]
    return sequence, torch.cat(h), torch.cat(c)


def relative_error(found: Tensor, expected: Tensor) -> float:
    if expected.numel() == 0:
        return 0.0 if found.shape == expected.shape else float("inf")
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_reference(case: Case, dtype: torch.dtype, isa: str) -> None:
    it = draw(case).to(dtype)
    exact = it.to(torch.float64)
    for leaf in exact.leaves():
        leaf.requires_grad_()
    expected = reference(exact)
    incoming = [torch.randn_like(t).to(dtype) for t in expected]
    loss = sum((t * g.double()).sum() for t, g in zip(expected, incoming, strict=True))
    gradients = torch.autograd.grad(loss, exact.leaves())

    output, h_n, c_n, tape = forward(it)
    found = backward(it, list(incoming), output, tape)
    for name, a, b in zip(("output", "h_n", "c_n"), (output, h_n, c_n), expected, strict=True):
        assert a.dtype == dtype
        assert relative_error(a, b.detach()) < TOLERANCE[dtype], name
    for a, leaf, b in zip(found, it.leaves(), gradients, strict=True):
        assert a.dtype == leaf.dtype
        assert a.shape == leaf.shape
        assert relative_error(a, b) < TOLERANCE[dtype]


@pytest.mark.parametrize("given", [*itertools.product([False, True], repeat=3)])
def test_an_absent_gradient_counts_as_zeros(given: tuple[bool, bool, bool]) -> None:
    it = draw(Case(2, 5, 4, 3, 6, 2, states=True)).to(torch.float32)
    output, h_n, c_n, tape = forward(it)
    full = [
        torch.randn_like(t) if there else torch.zeros_like(t)
        for t, there in zip((output, h_n, c_n), given, strict=True)
    ]
    absent = [gradient if there else None for gradient, there in zip(full, given, strict=True)]
    for a, b in zip(backward(it, absent, output, tape), backward(it, list(full), output, tape), strict=True):
        assert torch.equal(a, b)


def test_equals_independent_nn_lstms(isa: str) -> None:
    lstms = [torch.nn.LSTM(20, 24, num_layers=2, batch_first=True) for _ in range(3)]
    weights = []
    for layer in range(2):
        parts = [
            [getattr(lstm, f"{name}_l{layer}") for lstm in lstms]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        stacked = [torch.stack(part).detach() for part in parts]
        weights += [stacked[0], stacked[1], stacked[2] + stacked[3]]
    input = torch.randn(3, 10, 6, 20)
    output, h_n, c_n, _ = forward(Arguments(input, weights, None, None, None, None))
    for group, lstm in enumerate(lstms):
        with torch.no_grad():
            expected, (h, c) = lstm(input[group])
        torch.testing.assert_close(output[group], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(h_n[:, group], h, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(c_n[:, group], c, rtol=1e-5, atol=1e-6)


def test_numerical_derivatives_agree() -> None:
    it = draw(Case(2, 2, 3, 2, 3, 2, states=True, dropout=True))

    class Run(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, input: Tensor, h0: Tensor, c0: Tensor, *weights: Tensor) -> Any:
            ctx.call = Arguments(input, list(weights), h0, c0, it.lengths, it.masks)
            output, h_n, c_n, ctx.tape = forward(ctx.call)
            ctx.output = output
            return output, h_n, c_n

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            found = backward(ctx.call, [g.contiguous() for g in gradients], ctx.output, ctx.tape)
            return found[0], *found[-2:], *found[1:-2]

    assert it.h0 is not None
    assert it.c0 is not None
    leaves = [it.input, it.h0, it.c0, *it.weights]
    assert torch.autograd.gradcheck(Run.apply, [leaf.requires_grad_() for leaf in leaves], fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(dtype: torch.dtype) -> None:
    it = draw(Case(2, 150, 31, 5, 40, 2, states=True, lengths=True)).to(dtype)  # two stretches of windows
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        output, h_n, c_n, tape = forward(it)
        gradients = backward(it, [output, h_n, c_n], output, tape)
        results.append([output, h_n, c_n, tape, *gradients])
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("batch", [2, 24, 25, 100])
def test_a_window_does_not_depend_on_the_windows_beside_it(batch: int, isa: str) -> None:
    it = draw(Case(1, batch, 5, 20, 30, 2)).to(torch.float32)
    together = forward(it)[0]
    for window in {0, batch // 2, batch - 1}:
        alone = forward(it._replace(input=it.input[:, window : window + 1]))[0]
        assert torch.equal(alone[:, 0], together[:, window])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_tape_that_was_not_kept_is_computed_again(dtype: torch.dtype) -> None:
    it = draw(Case(2, 30, 4, 5, 12, 2, states=True, lengths=True, dropout=True)).to(dtype)
    output, h_n, c_n, tape = forward(it)
    without, _, _, empty = forward(it, save_tape=False)
    assert empty.shape == (0,)
    assert torch.equal(output, without)
    kept = backward(it, [output, h_n, c_n], output, tape)
    again = backward(it, [output, h_n, c_n], output, empty)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_packed_weights_give_the_same_bits(isa: str) -> None:
    it = draw(Case(2, 9, 4, 5, 19, 2)).to(torch.float32)
    packed = torch.ops.sgela_fast.batched_lstm_pack.default(it.weights, 0)
    assert torch.equal(forward(it, packed)[0], forward(it)[0])


def test_weights_packed_for_another_instruction_set_or_shape_are_packed_again() -> None:
    it = draw(Case(1, 9, 4, 5, 19, 2)).to(torch.float32)
    other = draw(Case(1, 9, 4, 6, 19, 2)).to(torch.float32)
    for isa in extension.build_info()["isas"]:
        extension.force_isa(isa)
        packed = torch.ops.sgela_fast.batched_lstm_pack.default(it.weights, 0)
        for used in extension.build_info()["isas"]:
            extension.force_isa(used)
            assert torch.equal(forward(it, packed)[0], forward(it)[0])
            assert torch.equal(forward(other, packed)[0], forward(other)[0])
    extension.force_isa("")


def test_any_strides_of_the_input_are_taken() -> None:
    it = draw(Case(2, 7, 5, 6, 8, 1)).to(torch.float32)
    transposed = it.input.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3)
    last = it.input.mT.contiguous().mT
    padded = torch.randn(2, 7, 5, 11)
    padded[..., 2:8] = it.input
    expected = forward(it)
    for input in (transposed, last, padded[..., 2:8]):
        found = forward(it._replace(input=input))
        assert torch.equal(found[0], expected[0])
        gradients = [expected[0], expected[1], expected[2]]
        for a, b in zip(
            backward(it._replace(input=input), list(gradients), found[0], found[3]),
            backward(it, list(gradients), expected[0], expected[3]),
            strict=True,
        ):
            assert torch.equal(a, b)


def test_groups_may_share_a_window_by_stride_zero() -> None:
    it = draw(Case(3, 4, 5, 6, 8, 1)).to(torch.float32)
    shared = it._replace(input=it.input[:1].expand(3, -1, -1, -1))
    assert torch.equal(forward(shared)[0], forward(shared._replace(input=shared.input.contiguous()))[0])


def test_padding_beyond_a_windows_end_is_never_used() -> None:
    it = draw(Case(2, 30, 6, 3, 8, 2, lengths=True)).to(torch.float32)
    assert it.lengths is not None
    padded = it.input.clone()
    padded[:, torch.arange(6)[None, :] >= it.lengths[:, None]] = float("inf")
    expected, found = forward(it), forward(it._replace(input=padded))
    assert all(torch.equal(a, b) for a, b in zip(expected[:3], found[:3], strict=True))
    gradients = [expected[0], expected[1], expected[2]]
    for a, b in zip(
        backward(it, list(gradients), expected[0], expected[3]),
        backward(it._replace(input=padded), list(gradients), found[0], found[3]),
        strict=True,
    ):
        assert torch.equal(a, b)


def gates_of(x: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
    """The tape's i, f, g, o and c of a single unit after a single step, each of ``x``'s shape ``(B,)``."""
    tape = forward(Arguments(x.view(1, -1, 1, 1), weights, None, None, None, None))[3]
    return tape[: 5 * len(x)].view(-1, 5).unbind(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_are_accurate_from_denormal_to_saturated(dtype: torch.dtype, isa: str) -> None:
    eps = torch.finfo(dtype).eps
    sizes = torch.logspace(-40 if dtype == torch.float64 else -37, 1.8, 4000, dtype=dtype)
    x = torch.cat([-sizes, torch.zeros(1, dtype=dtype), sizes])
    weights = [torch.ones(1, 4, 1, dtype=dtype), torch.ones(1, 4, 1, dtype=dtype), torch.zeros(1, 4, dtype=dtype)]
    i, f, g, o, _ = gates_of(x, weights)
    sigmoid = 1 / (1 + torch.exp(-x.double()))
    for gate, expected in ((i, sigmoid), (f, sigmoid), (o, sigmoid), (g, torch.tanh(x.double()))):
        assert bool(((gate.double() - expected).abs() <= 4 * eps * expected.abs()).all())


def test_gates_saturate_and_keep_nan(isa: str) -> None:
    x = torch.tensor([-float("inf"), -1e30, -1e4, 1e4, 1e30, float("inf"), float("nan")])
    weights = [torch.ones(1, 4, 1), torch.ones(1, 4, 1), torch.zeros(1, 4)]
    i, _, g, _, c = gates_of(x, weights)
    torch.testing.assert_close(i[:6], torch.tensor([0.0, 0, 0, 1, 1, 1]), rtol=0, atol=2e-38)
    assert torch.equal(g[:6], torch.tensor([-1.0, -1, -1, 1, 1, 1]))
    assert all(bool(t[6].isnan()) for t in (i, g, c))


@pytest.mark.parametrize("wrong", ["input", "weight", "h0", "lengths", "masks", "dtype"])
def test_arguments_that_do_not_fit_are_refused(wrong: str) -> None:
    it = draw(Case(2, 3, 4, 5, 6, 2, states=True, lengths=True, dropout=True)).to(torch.float32)
    assert it.h0 is not None
    assert it.lengths is not None
    assert it.masks is not None
    changed = {
        "input": it._replace(input=it.input[:1]),
        "weight": it._replace(weights=[*it.weights[:5], it.weights[5][:, 1:]]),
        "h0": it._replace(h0=it.h0[..., 1:]),
        "lengths": it._replace(lengths=it.lengths[1:]),
        "masks": it._replace(masks=it.masks[:, :1]),
        "dtype": it._replace(input=it.input.to(torch.int32)),
    }
    with pytest.raises(RuntimeError, match="the CPU kernels take float64" if wrong == "dtype" else "batched_lstm"):
        forward(changed[wrong])


def test_an_unknown_kind_of_packing_is_refused() -> None:
    with pytest.raises(RuntimeError, match="kind"):
        torch.ops.sgela_fast.batched_lstm_pack.default(draw(Case(1, 1, 1, 1, 1, 1)).weights, 7)


def test_a_tape_of_another_call_is_refused() -> None:
    it = draw(Case(2, 3, 4, 5, 6, 2)).to(torch.float32)
    output, h_n, c_n, tape = forward(it)
    with pytest.raises(RuntimeError, match="tape"):
        backward(it, [output, h_n, c_n], output, tape[1:])
