"""Arguments of attention_decoder: what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from torch import Tensor

from sgela_fast.ops._attention_arguments import DIRECTIONS, MODES, Backend
from sgela_fast.reference.attention_decoder import DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState

Outputs = Literal["context", "all"]


def check_settings(
    steps: int,
    teacher: Tensor | None,
    feedback: bool,
    mode: str | None,
    centers: str,
    sigma: float,
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
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be positive")
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


def check_tensors(
    encoded: Tensor, state: LSTMState, weights: DecoderWeights, teacher: Tensor | None, steps: int, attends: bool
) -> None:
    """Raise ValueError for tensors whose shapes, dtypes or devices do not fit together."""
    if encoded.dim() != 4:
        raise ValueError(f"encoded has shape {tuple(encoded.shape)}; it needs (G, B, Tk, K)")
    groups, batch, keys, hidden = encoded.shape
    if hidden < 1 or (attends and keys < 1):
        raise ValueError(f"encoded has shape {tuple(encoded.shape)}; Tk and K must be 1 or more")
    if not weights.layers:
        raise ValueError("weights has no layer; it needs one or more")
    if weights.output.dim() != 3:
        raise ValueError(f"weights.output has shape {tuple(weights.output.shape)}; it needs (G, J, K)")
    if attends and weights.fusion is None:
        raise ValueError("weights.fusion is None; attention needs W_att, (G, K, 2K)")
    joints = weights.output.shape[1]
    wanted: dict[str, tuple[int, ...]] = {
        "weights.key": (groups, hidden, hidden),
        "weights.fusion": (groups, hidden, 2 * hidden),
        "weights.output": (groups, joints, hidden),
        "weights.output_bias": (groups, joints),
        "teacher": (groups, batch, steps, joints),
    }
    for index in range(len(weights.layers)):
        inputs = hidden if index else joints + hidden if attends else joints
        shapes = ((groups, 4 * hidden, inputs), (groups, 4 * hidden, hidden), (groups, 4 * hidden))
        wanted |= {f"{field} of layer {index}": s for field, s in zip(LSTMLayer._fields, shapes, strict=True)}
    for part in LSTMState._fields:
        wanted[f"{part} of state"] = (len(weights.layers), groups, batch, hidden)
    if not encoded.is_floating_point():
        raise ValueError(f"encoded is {encoded.dtype}; it must be a floating-point tensor")
    for name, tensor in _named(state, weights, teacher, attends):
        if tuple(tensor.shape) != wanted[name]:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; it needs {wanted[name]}, for encoded {tuple(encoded.shape)} "
                f"and {joints} joints"
            )
        if tensor.dtype != encoded.dtype:
            raise ValueError(f"{name} is {tensor.dtype} and encoded {encoded.dtype}; convert one of them")
        if tensor.device != encoded.device:
            raise ValueError(f"{name} is on {tensor.device} and encoded on {encoded.device}; move one of them")


def _named(
    state: LSTMState, weights: DecoderWeights, teacher: Tensor | None, attends: bool
) -> Iterator[tuple[str, Tensor]]:
    for index, layer in enumerate(weights.layers):
        yield from ((f"{field} of layer {index}", tensor) for field, tensor in zip(layer._fields, layer, strict=True))
    yield "weights.output", weights.output
    optional = {"weights.output_bias": weights.output_bias, "teacher": teacher}
    if attends:
        optional |= {"weights.key": weights.key, "weights.fusion": weights.fusion}
    yield from ((name, tensor) for name, tensor in optional.items() if tensor is not None)
    yield from ((f"{part} of state", tensor) for part, tensor in zip(state._fields, state, strict=True))
