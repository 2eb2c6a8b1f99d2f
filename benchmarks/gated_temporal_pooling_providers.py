"""Who computes gated temporal pooling in its benchmark, and the float64 answer that they are held to.

Each provider gets its features in the layout it likes best. Gradients are those of sum(output * random), of the
features and of every weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.benchmarks.lstm_work import repeated, uniform
from sgela_fast.ops.gated_temporal_pooling import gated_temporal_pooling, why_not_fused
from sgela_fast.reference import gated_temporal_pooling as reference
from sgela_fast.reference.gated_temporal_pooling import GateWeights, MicroMotionTemplate

# So few, repeated, that no two frames of a channel are equal but for their last digits: the maximum of rounded numbers
# would be another frame, and the gradient another one altogether.
DISTINCT = 8
WINDOWS, SECOND_TAPS = (3, 5), (1, 3)
NAMES = [f"grad_{name}_{gate}" for gate in range(2) for name in GateWeights._fields]
# Sums of up to 3 x 128 products forward, of 128 x 30 x 128 in the weights' gradients, largest error over largest entry.
TOLERANCE, TF32_TOLERANCE = 2e-5, 2e-2


class Inputs(NamedTuple):
    """Features ``(S, N, T, C)``, the output's gradient ``(S, N, C)`` and the flat weights of both gates."""

    features: Tensor
    grad_output: Tensor
    weights: list[Tensor]


def inputs_of(case: Case) -> Inputs:
    """Inputs of a case, the same for all providers."""
    sizes = [int(case.settings[name]) for name in ("strips", "N", "frames", "channels", "hidden")]
    return _draw(*sizes, case.device)


@functools.lru_cache(maxsize=1)
def _draw(strips: int, count: int, frames: int, channels: int, hidden: int, device: str) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    weights = []
    for taps in SECOND_TAPS:
        weights.append(uniform((strips, hidden, channels, 3), (3 * channels) ** -0.5, generator))
        weights.append(uniform((strips, hidden), (3 * channels) ** -0.5, generator))
        weights.append(uniform((strips, channels, hidden, taps), (taps * hidden) ** -0.5, generator))
        weights.append(uniform((strips, channels), (taps * hidden) ** -0.5, generator))
    drawn = _distinct(count)
    # Strips are sums of a mean and a maximum behind a leaky ReLU: positive, most of them.
    features = torch.randn(strips, drawn, frames, channels, generator=generator).abs()
    grad = torch.randn(strips, drawn, channels, generator=generator)
    given = [repeated(tensor, count, 1).contiguous() for tensor in (features, grad)]
    features, grad, *weights = (tensor.to(device) for tensor in (*given, *weights))
    return Inputs(features, grad, weights)


def _distinct(count: int) -> int:
    return DISTINCT if count % DISTINCT == 0 else count


def expected(case: Case, _answer: str) -> Outputs:
    """The reference in float64, of the sequences that differ."""
    given, count = inputs_of(case), int(case.settings["N"])
    drawn = _distinct(count)
    leaves = [tensor.double().requires_grad_() for tensor in (given.features[:, :drawn], *given.weights)]
    output = reference.gated_temporal_pooling(leaves[0], [GateWeights(*leaves[1:5]), GateWeights(*leaves[5:])])
    found = {"output": repeated(output.detach(), count, 1)}
    if not case.settings["backward"]:
        return found
    gradients = torch.autograd.grad(output, leaves, given.grad_output[:, :drawn].double())
    found["grad_features"] = repeated(gradients[0], count, 1)
    return found | {name: grad * (count // drawn) for name, grad in zip(NAMES, gradients[1:], strict=True)}


def tolerance(case: Case, _precision: str) -> dict[str, float]:
    """Largest deviations, relative to the largest entry."""
    bound = TF32_TOLERANCE if case.settings["precision"] == "tf32" else TOLERANCE
    return dict.fromkeys(["output", "grad_features", *NAMES], bound)


# A function of features and weights.
Run = Callable[..., Tensor]


def _job_of(
    run: Run, features: Tensor, weights: Sequence[Tensor], grad: Tensor, back: Callable[[Tensor], Tensor], case: Case
) -> Job:
    """``run`` forward, or forward and backward, in its own layout; ``back`` views features in that of the op."""
    if not case.settings["backward"]:

        def forward() -> Outputs:
            with torch.inference_mode():
                return {"output": run(features, *weights)}

        return forward
    leaves = [features.detach().requires_grad_(), *(weight.requires_grad_() for weight in weights)]

    def both() -> Outputs:
        output = run(*leaves)
        grad_features, *gradients = torch.autograd.grad(output, leaves, grad)
        # One tensor of each kind, or one for each strip.
        kinds = {name: gradients[place :: len(NAMES)] for place, name in enumerate(NAMES)}
        named = {name: found[0] if len(found) == 1 else found for name, found in kinds.items()}
        return {"output": output, "grad_features": back(grad_features), **named}

    return both


def _fused(features: Tensor, *weights: Tensor) -> Tensor:
    gates = [GateWeights(*weights[:4]), GateWeights(*weights[4:])]
    return gated_temporal_pooling(features, gates, windows=WINDOWS, backend="fused")


def _batched(features: Tensor, *weights: Tensor) -> Tensor:
    """All strips at once by grouped convolutions: ``features (N, S C, T)``."""
    strips, channels = weights[2].shape[:2]
    out = torch.zeros_like(features)
    for gate, window in enumerate(WINDOWS):
        conv1, bias1, conv2, bias2 = weights[4 * gate : 4 * gate + 4]
        logits = reference.convolve_strips(reference.convolve_strips(features, conv1, bias1).relu(), conv2, bias2)
        mean = torch.nn.functional.avg_pool1d(features, window, stride=1, padding=window // 2)
        maximum = torch.nn.functional.max_pool1d(features, window, stride=1, padding=window // 2)
        out = out + (mean + maximum) * logits.sigmoid()
    return out.max(dim=-1).values.unflatten(1, (strips, channels)).transpose(0, 1)  # (S, N, C)


def _batched_job(run: Run, case: Case) -> Job:
    given = inputs_of(case)
    strips, _, _, channels = given.features.shape
    features = given.features.permute(1, 0, 3, 2).flatten(1, 2).contiguous()  # (N, S C, T)

    def back(gradient: Tensor) -> Tensor:
        return gradient.unflatten(1, (strips, channels)).permute(1, 0, 3, 2)

    return _job_of(run, features, given.weights, given.grad_output, back, case)


def prepare_fused(case: Case) -> Job:
    """This package's kernels."""
    reason = why_not_fused(case.device, torch.float32)
    if reason is not None:
        raise Unavailable(reason)
    given = inputs_of(case)
    return _job_of(_fused, given.features, given.weights, given.grad_output, lambda gradient: gradient, case)


def prepare_eager(case: Case) -> Job:
    """Plain modules, one a strip, in a loop, as the public code has them: ``features (S, N, C, T)``."""
    given = inputs_of(case)
    strips, _, _, channels = given.features.shape
    modules = [MicroMotionTemplate(channels, int(case.settings["hidden"])).to(case.device) for _ in range(strips)]
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    for module, *values in zip(modules, *given.weights, strict=True):
        places = [f"gates.{gate}.{name}" for gate in range(2) for name in names]
        module.load_state_dict(dict(zip(places, values, strict=True)))
    parameters = [parameter for module in modules for parameter in module.parameters()]
    features = given.features.transpose(2, 3).contiguous()

    def loop(frames: Tensor, *_: Tensor) -> Tensor:
        return torch.stack([module(strip).max(dim=-1).values for module, strip in zip(modules, frames, strict=True)])

    return _job_of(loop, features, parameters, given.grad_output, lambda gradient: gradient.mT, case)


def prepare_batched(case: Case) -> Job:
    """Grouped convolutions: the strongest plain PyTorch."""
    return _batched_job(_batched, case)


@functools.cache
def _compiled(_backward: bool, _tiny: bool) -> Run:
    return torch.compile(_batched, fullgraph=True)


def prepare_compiled(case: Case) -> Job:
    """The grouped convolutions, compiled."""
    return _batched_job(_compiled(bool(case.settings["backward"]), int(case.settings["N"]) == 1), case)


PROVIDERS = (
    Provider("fused", prepare_fused, graph=True),
    Provider("eager", prepare_eager, note="plain modules, one a strip, in a loop"),
    Provider("eager batched", prepare_batched, note="grouped convolutions for all strips at once", graph=True),
    Provider("compile", prepare_compiled, note="torch.compile of the grouped convolutions", compiles=True, graph=True),
)
