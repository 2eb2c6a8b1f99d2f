"""Weights, inputs and drawn shapes for the tests of batched_lstm, and the ways to run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from sgela_fast.benchmarks.tolerances import relative_bound
from sgela_fast.ops import _lstm_cuda
from sgela_fast.ops import batched_lstm as op
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from tests.ops.gate_kernels import emulate_gate_kernels

try:
    from sgela_fast import _C  # type: ignore[attr-defined]

    ISAS: list[str] = _C.build_info()["isas"]
except ImportError:
    ISAS = []

MISSING = op._WHY_NO_CPU_KERNEL
needs_kernels = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


class Case(NamedTuple):
    """Shape of one call, and what it has beside input and weights."""

    groups: int = 3
    batch: int = 5
    steps: int = 6
    inputs: int = 4
    hidden: int = 7
    layers: int = 2
    dtype: torch.dtype = torch.float64
    state: bool = True
    lengths: bool = False
    dropout: float = 0.0
    layout: str = "dense"
    seed: int = 0


@st.composite
def cases(draw: st.DrawFn, dtypes: Sequence[torch.dtype]) -> Case:
    """One size at a time is large, so that a case takes milliseconds."""
    large = draw(st.sampled_from(["none", "hidden", "batch", "steps"]))
    return Case(
        groups=draw(st.integers(1, 5)),
        batch=draw(st.integers(0, 300) if large == "batch" else st.integers(0, 6)),
        steps=draw(st.integers(1, 40) if large == "steps" else st.integers(1, 6)),
        inputs=draw(st.integers(1, 20)),
        hidden=draw(st.integers(1, 300) if large == "hidden" else st.integers(1, 20)),
        layers=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(list(dtypes))),
        state=draw(st.booleans()),
        lengths=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.0, 0.4, 1.0])),
        layout=draw(st.sampled_from(["dense", "steps first", "sliced", "shared"])),
        seed=draw(st.integers(0, 2**31)),
    )


class Inputs(NamedTuple):
    """Everything one call takes."""

    input: Tensor
    weights: list[LSTMLayer]
    state: LSTMState | None
    lengths: Tensor | None

    def leaves(self) -> list[Tensor]:
        return [self.input, *(self.state or ()), *(tensor for layer in self.weights for tensor in layer)]

    def in_float64(self) -> Inputs:
        """The same numbers, as leaves of their own."""

        def convert(tensor: Tensor) -> Tensor:
            return tensor.detach().double().requires_grad_()

        weights = [LSTMLayer(*map(convert, layer)) for layer in self.weights]
        state = None if self.state is None else LSTMState(*map(convert, self.state))
        return Inputs(convert(self.input), weights, state, self.lengths)


def draw(case: Case, device: str = "cpu") -> Inputs:
    """Random tensors of a case's shapes, each a leaf that requires a gradient."""
    generator = torch.Generator().manual_seed(case.seed)

    def leaf(dense: Tensor) -> Tensor:
        return dense.to(device).detach().requires_grad_()

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(case.dtype)

    weights = []
    for layer in range(case.layers):
        columns = case.inputs if layer == 0 else case.hidden
        shapes = ((4 * case.hidden, columns), (4 * case.hidden, case.hidden), (4 * case.hidden,))
        size = (columns + case.hidden) ** -0.5
        weights.append(LSTMLayer(*(leaf(size * normal(case.groups, *shape)) for shape in shapes)))
    shape = (case.layers, case.groups, case.batch, case.hidden)
    state = LSTMState(*(leaf(normal(*shape).tanh()) for _ in range(2))) if case.state else None
    lengths = None
    if case.lengths:  # a few beyond both ends
        lengths = torch.randint(-1, case.steps + 2, (case.batch,), generator=generator).to(device)
    x = laid_out(normal(case.groups, case.batch, case.steps, case.inputs).to(device), case.layout)
    return Inputs(x.requires_grad_(), weights, state, lengths)


def laid_out(dense: Tensor, layout: str) -> Tensor:
    """The same numbers behind other strides, or (``shared``) those of the first group for all groups."""
    if layout == "steps first":
        return dense.transpose(0, 2).contiguous().transpose(0, 2)
    if layout == "sliced":
        wide = dense.new_full((*dense.shape[:-1], dense.shape[-1] + 3), float("nan"))
        wide[..., 1:-2] = dense
        return wide[..., 1:-2]
    return dense[:1].expand(dense.shape) if layout == "shared" else dense


def results_and_gradients(
    function: Callable[..., Any], inputs: Inputs, case: Case, **options: Any
) -> dict[str, Tensor]:
    """Results of ``case`` and gradients of a random weighting of them, by name."""
    torch.manual_seed(case.seed)
    result = function(inputs.input, inputs.weights, inputs.state, lengths=inputs.lengths, **options)
    names = ["input", *(["h0", "c0"] if inputs.state else [])]
    names += [f"{name} {i}" for i in range(len(inputs.weights)) for name in LSTMLayer._fields]
    return named_gradients(result, dict(zip(names, inputs.leaves(), strict=True)), case)


def named_gradients(result: Any, leaves: dict[str, Tensor], case: Case) -> dict[str, Tensor]:
    """The results and the leaves' gradients, for upstream gradients of the case's seed and dtype."""
    output, (h, c) = result
    generator = torch.Generator().manual_seed(case.seed)
    upstream = [torch.randn(tensor.shape, generator=generator).to(case.dtype).to(tensor) for tensor in (output, h, c)]
    gradients = torch.autograd.grad((output, h, c), list(leaves.values()), upstream)
    named = {"output": output.detach(), "h": h.detach(), "c": c.detach()}
    return named | {f"gradient of {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}


def bound(case: Case) -> float:
    """Largest error of a result, relative to the largest entry (at least 1) of the exact one.

    A pre-activation is a sum of I + K products whose sizes add up to about sqrt(I + K), and every step and layer hands
    its error on to the next; the forget gates keep the sum over steps from growing beyond a few.
    """
    magnitude = (case.inputs + case.hidden) ** 0.5
    return case.layers * relative_bound(case.dtype, magnitude)


def assert_agree(ours: dict[str, Tensor], exact: dict[str, Tensor], allowed: float, terms: int = 1) -> None:
    """Compare results by name.

    Args:
        ours: what is tested.
        exact: the truth, or something as accurate.
        allowed: largest error relative to a result's size.
        terms: windows times steps: the products of order one that a gradient of weights adds up. Their rounding errors
            add up to the size of a random walk of so many steps, also where the sum itself happens to cancel.
    """
    assert ours.keys() == exact.keys()
    for name, result in ours.items():
        truth = exact[name]
        assert result.shape == truth.shape, name
        walk = terms**0.5 if name.startswith(("gradient of weight", "gradient of bias")) else 1.0
        size = max(walk, float(truth.abs().max())) if truth.numel() else walk
        error = (result.double() - truth.double()).abs().max() if truth.numel() else torch.zeros(())
        assert float(error) <= allowed * size, f"{name}: {float(error):.1e} beyond {allowed * size:.1e}"


def torch_lstms(case: Case) -> list[nn.LSTM]:
    """One ``torch.nn.LSTM`` a group with random weights."""
    torch.manual_seed(case.seed)
    shape = (case.inputs, case.hidden, case.layers)
    return [nn.LSTM(*shape, batch_first=True).to(case.dtype) for _ in range(case.groups)]


def layers_of(lstms: Sequence[nn.LSTM]) -> list[LSTMLayer]:
    """Weights of LSTMs of equal shape as the op takes them, connected to the LSTMs' parameters."""

    def stacked(name: str) -> Tensor:
        return torch.stack([lstm.get_parameter(name) for lstm in lstms])

    return [
        LSTMLayer(
            stacked(f"weight_ih_l{layer}"),
            stacked(f"weight_hh_l{layer}"),
            stacked(f"bias_ih_l{layer}") + stacked(f"bias_hh_l{layer}"),
        )
        for layer in range(lstms[0].num_layers)
    ]


class _Overload(NamedTuple):
    name: str
    overload: Any


class _OnCuda(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: int, *arguments: Any) -> Any:
        tensors, (input, *rest) = list(arguments[:weights]), arguments[weights:]
        output = _lstm_cuda.forward(input, tensors, *rest)
        op._save_for_backward(ctx, (input, tensors, *rest), output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        grad_input, grad_weights, *rest = op._differentiate(ctx, *gradients)
        return None, *grad_weights, grad_input, *rest


def run_on_the_cpu(monkeypatch: pytest.MonkeyPatch, path: _lstm_cuda.Path) -> None:
    """For one test, put what CUDA devices run by a path where the op's registered implementation is called."""

    def forward(input: Tensor, weights: list[Tensor], *rest: Any) -> Any:
        return _OnCuda.apply(len(weights), *weights, input, *rest)

    monkeypatch.setenv(_lstm_cuda.VARIABLE, path)
    monkeypatch.setattr(op, "FORWARD", _Overload(path, forward))
    monkeypatch.setattr(op, "BACKWARD", _Overload(f"{path} backward", _lstm_cuda.backward))
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", None)
    monkeypatch.setattr(op, "packed_weights", lambda weights: None)
    if path == "gates":
        emulate_gate_kernels(monkeypatch)
