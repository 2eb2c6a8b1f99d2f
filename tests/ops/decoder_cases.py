"""Weights, inputs and drawn shapes for the tests of attention_decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from sgela_fast.benchmarks.tolerances import relative_bound
from sgela_fast.ops import attention_decoder as op
from sgela_fast.ops._attention_arguments import DIRECTIONS, MODES
from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState

MISSING = op._WHY_NO_CPU_KERNEL
needs_kernels = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


class Case(NamedTuple):
    """Shape and settings of one call; the defaults are the released model's, made small."""

    groups: int = 3
    batch: int = 5
    keys: int = 6
    steps: int = 6
    joints: int = 4
    hidden: int = 16
    layers: int = 2
    dtype: torch.dtype = torch.float32
    fed: str = "zeros"
    mode: Any = "las"
    fusion: Any = "linear"
    projected: bool = True
    bias: bool = True
    centers: Any = "reverse"
    sigma: float = 3.0
    window: float | None = None
    layout: str = "dense"
    seed: int = 0


PAPER = Case(fed="feedback", fusion="tanh", projected=False, bias=False)
RELEASED = Case()


@st.composite
def cases(draw: st.DrawFn, dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64)) -> Case:
    """One size at a time is large, so that a case takes milliseconds."""
    large = draw(st.sampled_from(["none", "hidden", "batch"]))
    variant = draw(st.sampled_from([PAPER, RELEASED]))
    mode = draw(st.sampled_from(["las", "las", "mbas", "bas", None]))
    return variant._replace(
        groups=draw(st.integers(1, 4)),
        batch=draw(st.integers(0, 70) if large == "batch" else st.integers(0, 5)),
        keys=draw(st.integers(1, 20)),
        steps=draw(st.integers(1, 9)),
        joints=draw(st.integers(1, 25)),
        hidden=draw(st.integers(1, 130) if large == "hidden" else st.integers(1, 20)),
        layers=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(list(dtypes))),
        fed=draw(st.sampled_from(["zeros", "feedback", "teacher"])),
        mode=mode,
        projected=draw(st.booleans()),
        bias=draw(st.booleans()),
        centers=draw(st.sampled_from(["reverse", "identity"])),
        sigma=draw(st.floats(0.25, 6.0)),
        window=draw(st.sampled_from([None, 0.0, 1.0, 2.5])),
        layout=draw(st.sampled_from(["dense", "steps first", "sliced", "shared"])),
        seed=draw(st.integers(0, 2**31)),
    )


class Inputs(NamedTuple):
    """Everything one call takes."""

    encoded: Tensor
    state: LSTMState
    weights: DecoderWeights
    options: dict[str, Any]

    def decode(self, function: Callable[..., Any] = op.attention_decoder, **options: Any) -> Any:
        return function(self.encoded, self.state, self.weights, **self.options, **options)

    def arguments(self, *further: Any) -> tuple[Any, ...]:
        """As the schemas of the decoder's ops have them, up to ``tanh``, and ``further`` ones."""
        weights, options = self.weights, self.options
        attends = options["mode"] is not None
        return (
            self.encoded,
            *self.state,
            [weight for layer in weights.layers for weight in layer[:2]],
            [layer.bias for layer in weights.layers],
            weights.key if attends else None,
            weights.fusion if attends else None,
            weights.output,
            weights.output_bias,
            options["teacher"],
            options["steps"],
            options["feedback"],
            MODES[options["mode"] or "bas"],
            DIRECTIONS[options["centers"]],
            options["sigma"],
            options["window"],
            options["fusion"] == "tanh",
            *further,
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same call with all tensors changed."""
        weights = self.weights
        optional = [None if tensor is None else change(tensor) for tensor in weights[1:]]
        layers = [LSTMLayer(*map(change, layer)) for layer in weights.layers]
        teacher = self.options["teacher"]
        return Inputs(
            change(self.encoded),
            LSTMState(*map(change, self.state)),
            DecoderWeights(layers, *optional),  # type: ignore[arg-type]
            self.options | {"teacher": None if teacher is None else change(teacher)},
        )


def draw(case: Case) -> Inputs:
    """Random tensors of a case's shapes: states within (-1, 1), weights that keep them there."""
    generator = torch.Generator().manual_seed(case.seed)
    groups, batch, hidden, joints, attends = case.groups, case.batch, case.hidden, case.joints, case.mode is not None

    def normal(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(shape, generator=generator, dtype=torch.float64)).to(case.dtype)

    def matrix(rows: int, columns: int) -> Tensor:
        return normal(groups, rows, columns, size=columns**-0.5)

    layers = []
    for index in range(case.layers):
        columns = hidden if index else joints + hidden if attends else joints
        layers.append(
            LSTMLayer(matrix(4 * hidden, columns), matrix(4 * hidden, hidden), normal(groups, 4 * hidden, size=0.5))
        )
    weights = DecoderWeights(
        layers=layers,
        key=matrix(hidden, hidden) if case.projected and attends else None,
        fusion=matrix(hidden, 2 * hidden) if attends else None,
        output=matrix(joints, hidden),
        output_bias=normal(groups, joints) if case.bias else None,
    )
    state = LSTMState(*(normal(case.layers, groups, batch, hidden).tanh() for _ in range(2)))
    teacher = laid_out(normal(groups, batch, case.steps, joints), case.layout) if case.fed == "teacher" else None
    options = {
        "steps": case.steps,
        "teacher": teacher,
        "feedback": case.fed == "feedback",
        "mode": case.mode,
        "centers": case.centers,
        "sigma": case.sigma,
        "window": case.window,
        "fusion": case.fusion,
    }
    encoded = laid_out(normal(groups, batch, case.keys, hidden).tanh(), case.layout)
    return Inputs(encoded, state, weights, options)


def laid_out(dense: Tensor, layout: str) -> Tensor:
    """The same numbers behind other strides, or (``shared``) those of the first group for all groups."""
    if layout == "steps first":
        return dense.transpose(0, 2).contiguous().transpose(0, 2)
    if layout == "sliced":
        wide = dense.new_full((*dense.shape[:-1], dense.shape[-1] + 3), float("nan"))
        wide[..., 1:-2] = dense
        return wide[..., 1:-2]
    return dense[:1].expand(dense.shape) if layout == "shared" else dense


def bound(case: Case) -> float:
    """Largest error of a result, relative to the largest entry (at least 1) of the exact one.

    Scores and pre-activations are sums of about K products, whose sizes add up to about K and sqrt(J + 2 K); layers and
    steps hand their errors on, damped by gates and weights of norm 1.
    """
    magnitude = case.hidden + (case.joints + 2 * case.hidden) ** 0.5
    return case.layers * relative_bound(case.dtype, magnitude)


def assert_agree(ours: DecoderOutput, exact: DecoderOutput, allowed: float) -> None:
    for name, result, truth in zip(DecoderOutput._fields, ours, exact, strict=True):
        if result is None or truth is None:
            assert result is None and truth is None, name  # noqa: PT018
            continue
        assert result.shape == truth.shape, name
        if truth.numel():
            size = max(1.0, float(truth.abs().max()))
            error = float((result.double() - truth.double()).abs().max())
            assert error <= allowed * size, f"{name}: {error:.1e} beyond {allowed * size:.1e}"


def agrees_with_the_reference(case: Case) -> None:
    inputs = draw(case)
    ours = inputs.decode(backend="fused")
    assert_agree(ours, inputs.each(Tensor.double).decode(reference), bound(case))
    if case.mode is not None:
        assert torch.equal(inputs.decode(backend="fused", outputs="context"), ours.context)
