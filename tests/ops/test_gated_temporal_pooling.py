"""Claims about gated_temporal_pooling, fused: values and gradients, edges, and repeatability."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import _tape
from sgela_fast.ops import gated_temporal_pooling as op
from sgela_fast.reference.gated_temporal_pooling import GateWeights, Reduction
from tests.ops.pooling_cases import SELFGAIT, Case, assert_close_to_exact, draw, outcome, strip_by_strip

fused = functools.partial(op.gated_temporal_pooling, backend="fused")
MISSING = op._WHY_NO_CPU_KERNEL
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

GENERAL: dict[str, Any] = {"kernels": ((1, 1), (3, 7), (5, 3)), "windows": (7, 1, 9)}
# Below, at and above vectors, panels and blocks of rows; one sequence that is longer than a block.
SHAPES = [(2, 3, 7, 5, 3), (1, 1, 1, 1, 1), (3, 9, 30, 64, 16), (2, 2, 300, 7, 4), (1, 13, 15, 35, 17), (2, 0, 4, 8, 2)]


def lengths_of(case: Case) -> Tensor:
    """Whole, cut and empty sequences, in turn, and some that claim more frames than there are."""
    count, frames = case.features.shape[1:3]
    return torch.tensor([frames, frames // 2, 0, frames + 3, 1, -2])[torch.arange(count) % 6]


@pytest.mark.parametrize("reduce", ["max", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_exact(shape: tuple[int, ...], dtype: torch.dtype, reduce: Reduction) -> None:
    case = draw(*shape, dtype=dtype)
    for settings in ({}, {"lengths": lengths_of(case), "negative_slope": 0.01}):
        settings |= {"reduce": reduce}
        assert_close_to_exact(outcome(fused, case, **settings), case, **settings)


@pytest.mark.parametrize("reduce", ["max", "none"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_at_the_ends_alone(dtype: torch.dtype, reduce: Reduction) -> None:
    case = draw(2, 3, 9, 20, 6, dtype=dtype)
    assert_close_to_exact(outcome(fused, case, reduce=reduce), case, reduce=reduce)


@pytest.mark.parametrize("reduce", ["max", "none"])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 12])
def test_gates_may_differ_in_everything(frames: int, reduce: Reduction) -> None:
    case = draw(2, 3, frames, 19, (3, 40, 9), kernels=GENERAL["kernels"], bias=False)
    settings = {"windows": GENERAL["windows"], "reduce": reduce, "lengths": lengths_of(case)}
    assert_close_to_exact(outcome(fused, case, **settings), case, **settings)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
@pytest.mark.parametrize(("bias", "negative_slope"), [(True, 0.0), (False, 0.01)], ids=["selfgait", "gaitpart"])
def test_equals_plain_modules_strip_by_strip(frames: int, bias: bool, negative_slope: float) -> None:
    case = draw(3, 2, frames, 8, 2, bias=bias)
    loop = functools.partial(lambda *inputs, **settings: strip_by_strip(Case(*inputs), **settings))
    for ours, theirs in zip(
        outcome(fused, case, negative_slope=negative_slope),
        outcome(loop, case, negative_slope=negative_slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("reduce", ["max", "none"])
def test_ties_give_the_gradient_to_the_first_frame_as_the_plain_modules_do(reduce: Reduction) -> None:
    case = draw(2, 3, 8, 6, 2)
    repeated = case.features.detach().round().clamp(-1, 1)  # windows full of equal frames
    repeated[:, 0] = repeated[:, 0, :1]  # and a sequence of one frame, repeated: equal maxima over time
    case = Case(repeated.requires_grad_(), case.weights)
    assert_close_to_exact(outcome(fused, case, reduce=reduce), case, reduce=reduce)


def test_a_nan_reaches_the_result_through_windows_and_gates() -> None:
    case = draw(2, 3, 9, 6, 2, requires_grad=False)
    case.features[0, 1, 4, 2] = torch.nan
    whole, pooled = fused(*case, reduce="none"), fused(*case)
    exact = op.gated_temporal_pooling(*case, reduce="none", backend="reference")
    assert torch.equal(whole.isnan(), exact.isnan())
    assert torch.equal(pooled.isnan(), whole.isnan().any(dim=2))
    assert pooled[0, 1].isnan().all()  # every channel's gate sees the frame
    assert not pooled[0, [0, 2]].isnan().any()
    assert not pooled[1].isnan().any()


@pytest.mark.parametrize("reduce", ["max", "none"])
def test_what_lies_behind_the_end_is_never_read(reduce: Reduction) -> None:
    case = draw(2, 6, 7, 9, 3)
    lengths = lengths_of(case)
    spoilt = case.features.detach().clone()
    for sequence, length in enumerate(lengths.clamp(0, 7).tolist()):
        spoilt[:, sequence, length:] = torch.nan
    other = Case(spoilt.requires_grad_(), case.weights)
    settings: dict[str, Any] = {"lengths": lengths, "reduce": reduce}
    for clean, found in zip(outcome(fused, case, **settings), outcome(fused, other, **settings), strict=True):
        assert torch.equal(clean, found)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (2, 1, 0, 3), (0, 1, 3, 2)], ids=["sequences", "frames", "channels"])
def test_any_layout_of_the_features_is_read_right(order: tuple[int, ...]) -> None:
    case = draw(2, 3, 6, 5, 2, requires_grad=False)
    inverse = [order.index(dim) for dim in range(4)]
    turned = case.features.permute(order).contiguous().permute(inverse)
    assert turned.stride() != case.features.stride()
    assert torch.equal(fused(turned, case.weights), fused(*case))


@pytest.mark.parametrize("reduce", ["max", "none"])
def test_results_do_not_depend_on_threads_or_on_the_tape(reduce: Reduction, monkeypatch: pytest.MonkeyPatch) -> None:
    case = draw(3, 17, 11, 20, 6, dtype=torch.float32)
    first = outcome(fused, case, reduce=reduce)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        second = outcome(fused, case, reduce=reduce)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(_tape, "LIMIT_BYTES", 0)
    for one, two, three in zip(first, second, outcome(fused, case, reduce=reduce), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_a_sequence_is_the_same_alone_and_among_others() -> None:
    case = draw(2, 23, 12, 20, 6, dtype=torch.float32, requires_grad=False)
    together = fused(*case)
    for sequence in (0, 7, 22):
        assert torch.equal(fused(case.features[:, sequence, None], case.weights)[:, 0], together[:, sequence])


@pytest.mark.parametrize("reduce", ["max", "none"])
def test_derivatives_are_those_of_the_values(reduce: Reduction) -> None:
    case = draw(2, 2, 4, 3, 2)
    lengths = torch.tensor([4, 3])

    def pooled(features: Tensor, *flat: Tensor) -> Tensor:
        gates = [GateWeights(*flat[:4]), GateWeights(*flat[4:])]
        return fused(features, gates, reduce=reduce, lengths=lengths)

    assert torch.autograd.gradcheck(pooled, case.tensors())


def test_a_second_derivative_is_refused_with_the_mend() -> None:
    case = draw(1, 1, 4, 3, 2)
    (gradient,) = torch.autograd.grad(fused(*case).sum(), case.features, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives need backend='reference'"):
        gradient.sum().backward()


def test_auto_is_the_fused_op_on_the_cpu() -> None:
    case = draw(2, 3, 7, 5, 3, kernels=SELFGAIT, requires_grad=False)
    assert torch.equal(op.gated_temporal_pooling(*case), fused(*case))


FEATURES = torch.zeros(2, 3, 4, 5)
GATE = GateWeights(torch.zeros(2, 6, 5, 3), torch.zeros(2, 6), torch.zeros(2, 5, 6, 1), torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"windows": ()}, "windows is empty; give the frames of one gate's template or more"),
        ({"windows": (3, 4)}, "windows holds 4; each must be an odd integer, to keep the number of frames"),
        ({"windows": (3.0, 5)}, "windows holds 3.0; each must be an odd integer, to keep the number of frames"),
        (
            {"weights": torch.nn.Identity()},
            r"weights is a Identity; give its weights\(\), one \(conv1_weight, conv1_bias",
        ),
        ({"lengths": [4, 3, 2]}, r"lengths is \[4, 3, 2\]; give a tensor of integers"),
        ({"windows": (3,)}, "weights has 2 gates and windows 1; there must be one a window"),
        ({"negative_slope": -1.0}, "negative_slope is -1.0; it must be 0 or more, and finite"),
        ({"reduce": "mean"}, "reduce is 'mean'; choose max or none"),
        ({"backend": "cuda"}, "backend is 'cuda'; choose auto, reference or fused"),
        ({"weights": [GATE, GATE[:2]]}, r"weights\[1\] has 2 entries; it needs conv1_weight, conv1_bias, conv2_weight"),
        (
            {"weights": [GATE._replace(conv1_weight=torch.zeros(6, 5, 3)), GATE]},
            r"conv1_weight and conv2_weight of gate 0 are \(6, 5, 3\) and .*; they need \(S, H, C, K1\) and \(S, C,",
        ),
        (
            {"weights": [GATE, GATE._replace(conv1_weight=torch.zeros(2, 0, 5, 3))]},
            "gate 1 is for S = 2, C = 5, H = 0; each must be 1 or more",
        ),
        (
            {"weights": [GATE, GATE._replace(conv2_weight=torch.zeros(2, 5, 6, 2))]},
            "kernels of gate 1 have 3 and 2 taps; both must be odd",
        ),
        (
            {"weights": [GATE, GATE._replace(conv2_weight=torch.zeros(2, 5, 7, 1))]},
            r"conv2_weight of gate 1 has shape \(2, 5, 7, 1\); it needs \(2, 5, 6, 1\), for S = 2, C = 5, H = 6",
        ),
        (
            {"weights": [GATE._replace(conv1_bias=torch.zeros(6)), GATE]},
            r"conv1_bias of gate 0 has shape \(6,\); it needs \(2, 6\)",
        ),
        (
            {"features": torch.zeros(2, 3, 4, 6)},
            r"features has shape \(2, 3, 4, 6\); .* needs \(S, N, T, C\) = \(2, N, T, 5\)",
        ),
        ({"features": torch.zeros(2, 3, 0, 5)}, r"features has shape \(2, 3, 0, 5\): no frames; T must be 1 or more"),
        ({"features": FEATURES.long()}, "features is torch.int64; it must be a floating-point tensor"),
        ({"features": FEATURES.double()}, "conv1_weight of gate 0 is torch.float32 and features torch.float64; conv"),
        ({"features": FEATURES.to("meta")}, "conv1_weight of gate 0 is on cpu and features on meta; move one of them"),
        ({"lengths": torch.ones(3)}, "lengths is torch.float32; it must hold integers"),
        ({"lengths": torch.ones(2, dtype=torch.long)}, r"lengths has shape \(2,\); it needs \(N,\) = \(3,\), shared"),
        ({"lengths": torch.ones(3, dtype=torch.long, device="meta")}, "lengths is on meta and features on cpu; move"),
    ],
)
def test_wrong_arguments_are_named_with_the_mend(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        op.gated_temporal_pooling(**({"features": FEATURES, "weights": [GATE, GATE]} | arguments))


def test_a_device_without_kernels_is_named() -> None:
    gates = [GateWeights(*(None if tensor is None else tensor.to("meta") for tensor in GATE))] * 2  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="cannot run fused: there is no kernel for float32 on meta, or use backend="):
        fused(FEATURES.to("meta"), gates)


@pytest.mark.parametrize(("gates", "reduce"), [(3, "max"), (2, "none")])
def test_what_has_no_kernel_on_cuda_is_named(gates: int, reduce: Reduction) -> None:
    pytest.importorskip("triton")
    assert op.why_not_fused("cuda", torch.float32) is None
    missing = op.why_not_fused("cuda", torch.float32, gates, reduce)
    assert missing == "on cuda there are kernels for one or two gates and reduce='max' alone"
    assert op.why_not_fused("cuda", torch.float64) == "there is no kernel for float64 on cuda"
