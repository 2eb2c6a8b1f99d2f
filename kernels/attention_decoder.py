"""`attention_decoder` on CUDA devices: the whole decoding loop, one launch a layer and step and one for attention.

Six steps of two layers are 18 launches; beside them a few that bring the weights into form (see `prepare`), one product
for all keys if there is a key matrix, and one for all predictions if they are asked for. Outputs are allocated here and
written once; nothing waits for the device, so that calls can be captured in a CUDA graph. Large products follow torch's
own setting for the precision of matrix products. No caller takes this path by default.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from sgela_fast.kernels.attention_decoder_launch import Buffers, Prepared, Problem, has_loss, plan, prepare
from sgela_fast.kernels.attention_decoder_tuning import most_units
from sgela_fast.kernels.batched_lstm_tuning import ALIGNMENT
from sgela_fast.kernels.launch import INTERPRETED, Precision

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_STATES = 2  # steps of h that are kept unless all are wanted: the last, and the one being written

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def forward(
    encoded: Tensor,
    h0: Tensor,
    c0: Tensor,
    layers: Sequence[Tensor],
    biases: Sequence[Tensor],
    key: Tensor | None,
    fusion: Tensor | None,
    output: Tensor,
    output_bias: Tensor | None,
    teacher: Tensor | None,
    steps: int,
    feedback: bool,
    mode: int,
    direction: int,
    sigma: float,
    window: float | None,
    tanh: bool,
    everything: bool,
    *,
    precision: Precision | None = None,
) -> Results:
    """Decode, with the arguments of the op's schema.

    Args:
        encoded: ``(G, B, Tk, K)``, float32, bfloat16 or float16; unit stride in the last dimension, any in the others.
        h0: ``(L, G, B, K)``.
        c0: ``(L, G, B, K)``.
        layers: as for ``prepare``, like the next five; all in the dtype of ``encoded``.
        biases: of the layers.
        key: ``(G, K, K)`` or ``None``.
        fusion: W_att, or ``None`` for a decoder without attention.
        output: W_F.
        output_bias: b_F or ``None``.
        teacher: ``(G, B, T, J)``, any strides, or ``None``.
        steps: T.
        feedback: whether predictions are fed back; not with a teacher.
        mode: 0 bas, 1 mbas, 2 las.
        direction: -1 positions from the end, 1 from the start.
        sigma: width of the locality mask.
        window: half width outside which the mask is 0, or ``None``.
        tanh: whether the attentional layer has one.
        everything: whether all that is computed is wanted; else contexts and losses alone.
        precision: of float32 products in the kernels: ``ieee``, ``tf32x3`` or ``tf32``. By default as for all kernels.

    Returns:
        ``context (G, B, T, K)``, ``loss (G, B)``, ``alignment (G, B, T, Tk)``, ``reconstruction (G, B, T, J)``,
        ``attentional (G, B, T, K)``, ``h`` and ``c (L, G, B, T, K)``, in the dtype of ``encoded``; ``(0,)`` for what is
        not computed.

    Raises:
        ValueError: shapes, strides, dtypes or devices would make a kernel read out of bounds, or there are more hidden
            units than a kernel holds.
    """
    _check(encoded, h0, c0, layers, biases, key, fusion, output, output_bias, teacher, steps)
    feedback = feedback and teacher is None
    prepared = prepare(layers, biases, key, fusion, output, output_bias, feedback=feedback)
    return decode(
        encoded, h0, c0, prepared, teacher, steps, mode, direction, sigma, window, tanh, everything, precision=precision
    )


def decode(
    encoded: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Prepared,
    teacher: Tensor | None,
    steps: int,
    mode: int,
    direction: int,
    sigma: float,
    window: float | None,
    tanh: bool,
    everything: bool,
    *,
    precision: Precision | None = None,
) -> Results:
    """:func:`forward` with weights that ``prepare`` has brought into form, as often as they are used."""
    groups, batch, keys, hidden = encoded.shape
    attends, sets = weights.fusion is not None, len(weights.cells)
    rows = (groups, batch, steps)
    nothing = encoded.new_empty(0)
    kept = steps if everything else _STATES
    alignment = encoded.new_empty(*rows, keys, dtype=torch.float32) if everything and attends else None
    allocate = torch.Tensor.new_empty if has_loss(mode) and attends else torch.Tensor.new_zeros
    buffers = Buffers(
        h=encoded.new_empty(sets, groups, batch, kept, hidden),
        c=encoded.new_empty(sets, *rows, hidden) if everything else None,
        cells=encoded.new_empty(sets, groups, batch, hidden, dtype=torch.float32),
        context=encoded.new_empty(*rows, hidden) if attends else nothing,
        attentional=encoded.new_empty(groups, batch, steps if everything else 1, hidden),
        alignment=alignment,
        loss=allocate(encoded, (groups, batch), dtype=torch.float32),
    )
    if batch > 0 and groups > 0:
        with _on(encoded.device):
            compared = encoded
            if weights.key is not None and attends:
                compared = torch.bmm(encoded.flatten(1, 2), weights.key.mT).view(encoded.shape)
            problem = Problem(
                encoded, compared, h0, c0.float().contiguous(), weights, _with_unit_stride(teacher), steps, mode,
                direction, sigma, window, tanh, precision,
            )  # fmt: skip
            for launch in plan(problem, buffers):
                launch.run()
    loss = buffers.loss.to(encoded.dtype)
    if not everything:
        return buffers.context, loss, nothing, nothing, nothing, nothing, nothing
    assert buffers.c is not None
    attentional = buffers.attentional if attends else buffers.h[-1].clone()
    flat = attentional.flatten(1, 2)  # (G, B T, K)
    if weights.output_bias is None:
        predictions = torch.bmm(flat, weights.output.mT)
    else:
        predictions = torch.baddbmm(weights.output_bias[:, None], flat, weights.output.mT)
    reconstruction = predictions.view(*rows, weights.output.shape[1])
    aligned = nothing if alignment is None else alignment.to(encoded.dtype)
    return buffers.context, loss, aligned, reconstruction, attentional, buffers.h, buffers.c


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device; make that the tensors' one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _with_unit_stride(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or tensor.shape[-1] <= 1 or tensor.stride(-1) == 1:
        return tensor
    return tensor.contiguous()


def _check(
    encoded: Tensor,
    h0: Tensor,
    c0: Tensor,
    layers: Sequence[Tensor],
    biases: Sequence[Tensor],
    key: Tensor | None,
    fusion: Tensor | None,
    output: Tensor,
    output_bias: Tensor | None,
    teacher: Tensor | None,
    steps: int,
) -> None:
    if encoded.dim() != 4 or output.dim() != 3 or not biases or len(layers) != 2 * len(biases) or steps < 1:
        raise ValueError("encoded needs (G, B, Tk, K), output (G, J, K), each layer three weights, and steps 1 or more")
    if encoded.dtype not in _DTYPES:
        raise ValueError(f"encoded is {encoded.dtype}; it must be float32, bfloat16 or float16")
    if encoded.device.type != "cuda" and not INTERPRETED:
        raise ValueError(f"encoded is on {encoded.device}; the Triton kernels need a CUDA device")
    groups, batch, keys, hidden = encoded.shape
    joints = output.shape[1]
    if not 0 < hidden <= most_units(hidden):
        held = f"1 to {most_units(1)}, or multiples of {ALIGNMENT} up to {most_units(0)}"
        raise ValueError(f"encoded has {hidden} units; the kernels hold {held}, use backend='reference'")
    if fusion is not None and keys < 1:
        raise ValueError("encoded has no states to attend to")
    for name, tensor in (("encoded", encoded), ("h0", h0), ("c0", c0)):
        if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(-1)} in its last dimension; it must be 1")
    bottom = joints if fusion is None else joints + hidden
    states = (len(biases), groups, batch, hidden)
    expected: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("h0", h0, states),
        ("c0", c0, states),
        ("key", key, (groups, hidden, hidden)),
        ("fusion", fusion, (groups, hidden, 2 * hidden)),
        ("output", output, (groups, joints, hidden)),
        ("output_bias", output_bias, (groups, joints)),
        ("teacher", teacher, (groups, batch, steps, joints)),
    ]
    for layer, bias in enumerate(biases):
        width = hidden if layer else bottom
        expected += [
            (f"layers[{2 * layer}]", layers[2 * layer], (groups, 4 * hidden, width)),
            (f"layers[{2 * layer + 1}]", layers[2 * layer + 1], (groups, 4 * hidden, hidden)),
            (f"biases[{layer}]", bias, (groups, 4 * hidden)),
        ]
    for name, given, shape in expected:
        if given is None:
            continue
        if tuple(given.shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(given.shape)}; it needs {shape}")
        if given.dtype != encoded.dtype or given.device != encoded.device:
            found = f"{given.dtype} on {given.device}"
            raise ValueError(f"{name} is {found} and encoded {encoded.dtype} on {encoded.device}")
