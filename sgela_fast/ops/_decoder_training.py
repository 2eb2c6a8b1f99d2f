"""The gait decoder's loop with gradients: schemas, shape rules and derivatives of its training pass.

The forward pass returns all results and a tape: the activated gates, and the queries where keys are projected. The
backward pass goes back through all steps in one call, to every input and from every result; weights' gradients are one
product a matrix over all windows and steps. Without a tape (:mod:`sgela_fast.ops._tape` says when) it decodes again, a
stretch of windows at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops import _library, _tape
from sgela_fast.ops._decoder_encoding import CONFIGURATION, INPUTS, RESULTS

# What the backward pass reads of the results, beside the tape.
_TAPED = 0, 3, 4, 5, 6

FORWARD = _library.define(
    f"attention_decoder_forward_tape({INPUTS}, {CONFIGURATION}, bool save_tape) -> "
    f"({', '.join(f'Tensor {name}' for name in RESULTS)}, Tensor tape)"
)
BACKWARD = _library.define(
    f"attention_decoder_backward({', '.join(f'Tensor? grad_{name}' for name in RESULTS)}, {INPUTS}, Tensor[] taped, "
    f"{CONFIGURATION}, bool teacher_gradient) -> "
    "(Tensor grad_encoded, Tensor grad_h0, Tensor grad_c0, Tensor grad_teacher, Tensor[] grad_weights)"
)
WHY_NO_CPU_KERNEL = _library.why_no_cpu_kernel("attention_decoder_backward")


def decode(*inputs: Any) -> list[Tensor]:
    """The seven results of the training pass, differentiable.

    Args:
        inputs: of the op ``attention_decoder``, up to ``tanh``.
    """
    encoded, h0, steps, key = inputs[0], inputs[1], inputs[10], inputs[5]
    elements = _tape_elements(encoded, h0, steps, key)
    *results, _tape_of_call = FORWARD.overload(*inputs, _tape.keeps(elements, encoded.dtype))
    return results


def _tape_elements(encoded: Tensor, h0: Tensor, steps: Any, key: Tensor | None) -> Any:
    groups, batch, _, hidden = encoded.shape
    return groups * batch * steps * hidden * (4 * h0.shape[0] + (key is not None))


def _fake_forward(
    encoded: Tensor,
    h0: Tensor,
    _c0: Tensor,
    _layers: list[Tensor],
    _biases: list[Tensor],
    key: Tensor | None,
    fusion: Tensor | None,
    output: Tensor,
    _output_bias: Tensor | None,
    _teacher: Tensor | None,
    steps: Any,
    *configuration: Any,
) -> tuple[Tensor, ...]:
    groups, batch, keys, hidden = encoded.shape
    rows, states = (groups, batch, steps), (h0.shape[0], groups, batch, steps, hidden)
    return (
        encoded.new_empty((*rows, hidden) if fusion is not None else (0,)),
        encoded.new_empty(groups, batch),
        encoded.new_empty((*rows, keys) if fusion is not None else (0,)),
        encoded.new_empty(*rows, output.shape[1]),
        encoded.new_empty(*rows, hidden),
        encoded.new_empty(states),
        encoded.new_empty(states),
        encoded.new_empty(_tape_elements(encoded, h0, steps, key) if configuration[-1] else 0),
    )


def _fake_backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    encoded, h0, c0, *weights = arguments[7:16]
    teacher, teacher_gradient = arguments[16], arguments[-1]
    return (
        encoded.new_empty(encoded.shape),
        h0.new_empty(h0.shape),
        c0.new_empty(c0.shape),
        encoded.new_empty(teacher.shape if teacher_gradient and teacher is not None else (0,)),
        [weight.new_empty(weight.shape) for weight in _flat(*weights)],
    )


def _flat(layers: Sequence[Tensor], biases: Sequence[Tensor], *others: Tensor | None) -> list[Tensor]:
    """The weights that there are, in the order of ``grad_weights``."""
    return [*layers, *biases, *(tensor for tensor in others if tensor is not None)]


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    encoded, h0, c0, layers, biases, *optional = inputs[:10]
    tape, keeps = output[7], inputs[-1]
    taped = [*(output[i] for i in _TAPED), tape] if keeps else []
    ctx.save_for_backward(encoded, h0, c0, *optional, *layers, *biases, *taped)
    ctx.layers, ctx.taped, ctx.configuration = len(biases), len(taped), inputs[10:-1]
    ctx.mark_non_differentiable(tape)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
    encoded, h0, c0, key, fusion, output, output_bias, teacher, *others = ctx.saved_tensors
    layers, biases = others[: 2 * ctx.layers], others[2 * ctx.layers : 3 * ctx.layers]
    taped = others[3 * ctx.layers :]
    settings = [None] * (len(ctx.configuration) + 1)
    if all(gradient is None for gradient in gradients):
        return (None, None, None, [None] * len(layers), [None] * len(biases), None, None, None, None, None, *settings)
    wants_teacher = teacher is not None and bool(ctx.needs_input_grad[9])
    grad_encoded, grad_h0, grad_c0, grad_teacher, grad_weights = BACKWARD.overload(
        *gradients[:7],
        *(encoded, h0, c0, layers, biases, key, fusion, output, output_bias, teacher),
        taped,
        *ctx.configuration,
        wants_teacher,
    )
    rest = iter(grad_weights[3 * ctx.layers :])
    grad_key, grad_fusion, grad_output, grad_output_bias = (
        None if weight is None else next(rest) for weight in (key, fusion, output, output_bias)
    )
    return (
        *(grad_encoded, grad_h0, grad_c0),
        list(grad_weights[: 2 * ctx.layers]),
        list(grad_weights[2 * ctx.layers : 3 * ctx.layers]),
        *(grad_key, grad_fusion, grad_output, grad_output_bias, grad_teacher if wants_teacher else None),
        *settings,
    )


def _refuse_vmap(*_: Any) -> Any:
    raise RuntimeError(
        "attention_decoder's kernels for training have no rule for torch.func.vmap; give backend='reference'"
    )


_library.register(FORWARD, fake=_fake_forward)
_library.register(BACKWARD, fake=_fake_backward)
torch.library.register_autograd(FORWARD.name, _differentiate, setup_context=_save_for_backward, lib=_library.LIBRARY)
_library.refuse_second_derivative(BACKWARD)
_library.refuse_batched_gradients(BACKWARD)
for _op in (FORWARD, BACKWARD):
    torch.library.register_vmap(_op.name, _refuse_vmap, lib=_library.LIBRARY)
