"""No time without a right answer: outputs are held to those of a float64 computation before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Outputs
from sgela_fast.benchmarks.tolerances import deviation


class WrongAnswer(Exception):
    """A provider's outputs are not those expected; the message says which, and by how much."""


def verify(found: Outputs, expected: Outputs, tolerance: Mapping[str, float]) -> dict[str, float]:
    """Hold a provider's outputs to the expected ones.

    Args:
        found: outputs by name, in any dtype.
        expected: the same in float64; each must be there in ``found``.
        tolerance: largest permitted deviation of each, relative to the largest entry expected.

    Returns:
        The deviation of each output.

    Raises:
        WrongAnswer: an output is missing, has another shape, is not finite or is too far off.
    """
    deviations: dict[str, float] = {}
    for name in expected:
        if name not in found:
            raise WrongAnswer(f"it returns no {name}")
        result, answer = (_whole(outputs[name]) for outputs in (found, expected))
        if result.shape != answer.shape:
            raise WrongAnswer(f"{name} has shape {tuple(result.shape)}, not {tuple(answer.shape)}")
        if not bool(torch.isfinite(result).all()):
            raise WrongAnswer(f"{name} is not finite")
        deviations[name] = deviation(result, answer)
        if not deviations[name] <= tolerance[name]:
            raise WrongAnswer(f"{name} is off by {deviations[name]:.1e}, more than {tolerance[name]:.0e}")
    return deviations


def _whole(output: Tensor | Sequence[Tensor]) -> Tensor:
    return (output if isinstance(output, Tensor) else torch.stack(list(output))).detach()
