"""Arguments of attention_decoder: what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from sgela_fast.ops._attention_arguments import DIRECTIONS, MODES, Backend, check_number
from sgela_fast.reference.attention_decoder import DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMState

Outputs = Literal["context", "all"]


def check_settings(
    steps: int,
    teacher: Tensor | None,
    feedback: bool,
    mode: str | None,
    centers: str,
    sigma: float | Tensor,
    window: float | None,
    fusion: str,
    outputs: str,
    backend: str,
) -> None:
    """Raise ValueError for a setting that is unknown, out of range or at odds with another one."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be 1 or more")
    if teacher is not None and feedback:
        raise ValueError("teacher and feedback are both given; the decoder reads one of them")
    if mode is not None and mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose las, mbas or bas, or None for no attention")
    if centers not in DIRECTIONS:
        raise ValueError(f"centers is {centers!r}; choose reverse or identity")
    check_number("sigma", sigma)
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be positive")
    if window is not None:
        check_number("window", window)
    if window is not None and not window >= 0:
        raise ValueError(f"window is {window}; it must be 0 or more, or None")
    if fusion not in ("tanh", "linear"):
        raise ValueError(f"fusion is {fusion!r}; choose tanh or linear")
    if outputs not in get_args(Outputs):
        raise ValueError(f"outputs is {outputs!r}; choose context or all")
    if mode is None and outputs == "context":
        raise ValueError("without attention (mode None) there are no contexts; give outputs='all'")
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}; choose auto, reference or fused")


def named_state(state: Sequence[Tensor]) -> LSTMState:
    """The initial state by names; ValueError unless it is two tensors."""
    if len(state) != 2 or not all(isinstance(tensor, Tensor) for tensor in state):
        kinds = ", ".join(type(tensor).__name__ for tensor in state)
        raise ValueError(f"state is ({kinds}); it needs two tensors, h and c")
    return LSTMState(*state)


Named = list[tuple[str, Tensor | None, tuple[int, ...]]]


def weights_and_shapes(weights: DecoderWeights, groups: int, hidden: int, attends: bool) -> Named:
    """Every weight with its name and the shape that it must have; those that are not read as ``None``.

    Raises:
        ValueError: there is no layer, no attentional layer, or no saying how many joints there are.
    """
    if not weights.layers:
        raise ValueError("weights has no layer; it needs one or more")
    if weights.output.dim() != 3:
        raise ValueError(f"weights.output has shape {tuple(weights.output.shape)}; it needs (G, J, K)")
    if attends and weights.fusion is None:
        raise ValueError("weights.fusion is None; attention needs W_att, (G, K, 2K)")
    joints = weights.output.shape[1]
    bottom = joints + hidden if attends else joints
    named: Named = [
        ("weights.output", weights.output, (groups, joints, hidden)),
        ("weights.output_bias", weights.output_bias, (groups, joints)),
        ("weights.key", weights.key if attends else None, (groups, hidden, hidden)),
        ("weights.fusion", weights.fusion if attends else None, (groups, hidden, 2 * hidden)),
    ]
    for index, (weight_ih, weight_hh, bias) in enumerate(weights.layers):
        named += [
            (f"weight_ih of layer {index}", weight_ih, (groups, 4 * hidden, hidden if index else bottom)),
            (f"weight_hh of layer {index}", weight_hh, (groups, 4 * hidden, hidden)),
            (f"bias of layer {index}", bias, (groups, 4 * hidden)),
        ]
    return named


def check_encoded(encoded: Tensor, attends: bool) -> None:
    """Raise ValueError unless ``encoded`` is something to decode."""
    if encoded.dim() != 4:
        raise ValueError(f"encoded has shape {tuple(encoded.shape)}; it needs (G, B, Tk, K)")
    if encoded.shape[3] < 1 or (attends and encoded.shape[2] < 1):
        raise ValueError(f"encoded has shape {tuple(encoded.shape)}; Tk and K must be 1 or more")
    if not encoded.is_floating_point():
        raise ValueError(f"encoded is {encoded.dtype}; it must be a floating-point tensor")


def rest_and_shapes(state: LSTMState, teacher: Tensor | None, sizes: tuple[int, int, int, int, int, int]) -> Named:
    """State and teacher with their names and the shapes that they must have for ``sizes`` G, B, T, J, K and L."""
    groups, batch, steps, joints, hidden, layers = sizes
    return [
        ("teacher", teacher, (groups, batch, steps, joints)),
        ("h of state", state.h, (layers, groups, batch, hidden)),
        ("c of state", state.c, (layers, groups, batch, hidden)),
    ]


def check_tensors(
    encoded: Tensor, state: LSTMState, weights: DecoderWeights, teacher: Tensor | None, steps: int, attends: bool
) -> None:
    """Raise ValueError for tensors whose shapes, dtypes or devices do not fit together."""
    check_encoded(encoded, attends)
    groups, batch, _, hidden = encoded.shape
    dtype, device = encoded.dtype, encoded.device
    checked = weights_and_shapes(weights, groups, hidden, attends)
    joints = weights.output.shape[1]
    checked += rest_and_shapes(state, teacher, (groups, batch, steps, joints, hidden, len(weights.layers)))
    for name, tensor, shape in checked:
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; it needs {shape}, for encoded {tuple(encoded.shape)} and "
                f"{joints} joints"
            )
        if tensor.dtype != dtype:
            raise ValueError(f"{name} is {tensor.dtype} and encoded {dtype}; convert one of them")
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device} and encoded on {device}; move one of them")
