"""Gradients of attention_decoder for the tests: from every result to every input, against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops.attention_decoder import attention_decoder
from sgela_fast.reference.attention_decoder import DecoderOutput
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from tests.ops.decoder_cases import Case, Inputs, assert_agree, bound, draw

# Names of the results that every call has, and of those of attention.
ALWAYS = ("loss", "reconstruction", "attentional", "h", "c")
OF_ATTENTION = ("context", "alignment")


def as_leaves(inputs: Inputs) -> tuple[Inputs, list[Tensor]]:
    """The same call with tensors that want gradients, and these, with their strides."""
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    return inputs.each(leaf), leaves


def weighted_sum(output: DecoderOutput, names: tuple[str, ...], seed: int = 5) -> Tensor:
    """A scalar that depends on all entries of the named results."""
    generator = torch.Generator().manual_seed(seed)
    total = output.loss.new_zeros(())
    for name in names:
        result = getattr(output, name)
        if result is not None:
            weights = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.dtype)
            total = total + (result * weights).sum()
    return total


def gradients(
    inputs: Inputs, function: Callable[..., Any], names: tuple[str, ...] = ALWAYS + OF_ATTENTION, **options: Any
) -> tuple[DecoderOutput, list[Tensor | None]]:
    """Results, and the gradients of a sum over the named ones, one for each tensor of the call."""
    called, leaves = as_leaves(inputs)
    output = called.decode(function, **options)
    found = torch.autograd.grad(weighted_sum(output, names), leaves, allow_unused=True)
    return DecoderOutput(*(None if it is None else it.detach() for it in output)), list(found)


def assert_gradients_agree(ours: list[Tensor | None], exact: list[Tensor | None], allowed: float) -> None:
    for index, (result, truth) in enumerate(zip(ours, exact, strict=True)):
        if truth is None:
            assert result is None or not result.any(), index
            continue
        assert result is not None, index
        assert result.shape == truth.shape, index
        if truth.numel():
            size = max(1.0, float(truth.abs().max()))
            error = float((result.double() - truth).abs().max())
            assert error <= allowed * size, f"gradient {index}: {error:.1e} beyond {allowed * size:.1e}"


def learns_like_the_reference(case: Case, names: tuple[str, ...] = ALWAYS + OF_ATTENTION) -> None:
    inputs = draw(case)
    output, found = gradients(inputs, attention_decoder, names, backend="fused")
    exact, truth = gradients(inputs.each(Tensor.double), reference, names)
    assert_agree(output, exact, bound(case))
    # Every step hands its error on to the one before it, as on the way there.
    assert_gradients_agree(found, truth, case.steps * bound(case))
