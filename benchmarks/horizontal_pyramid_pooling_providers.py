"""Who computes horizontal pyramid pooling in its benchmark, and the float64 answer they are held to.

Maps are drawn from a normal distribution, so that no maximum is shared; gradients are those of sum(strips * random).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.benchmarks.tolerances import relative_bound
from sgela_fast.reference import horizontal_pyramid_pooling as reference

BINS = (1, 2, 4, 8, 16)
Pooling = Callable[[Tensor], Tensor]


class Inputs(NamedTuple):
    """Inputs of a case: ``features (N, C, H, W)`` and the strips' gradient ``(N, C, S)``."""

    features: Tensor
    grad_strips: Tensor


def inputs_of(case: Case) -> Inputs:
    """Inputs of a case, the same for all providers."""
    shape = tuple(int(case.settings[name]) for name in ("images", "C", "H", "W"))
    return _draw(shape, str(case.settings["layout"]), case.device, bool(case.settings["backward"]))


@functools.lru_cache(maxsize=1)
def _draw(shape: tuple[int, ...], layout: str, device: str, backward: bool) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    features = torch.randn(shape, generator=generator, device=device)
    if layout == "channels last":
        features = features.contiguous(memory_format=torch.channels_last)
    grad_strips = torch.randn(*shape[:2], sum(BINS), generator=generator, device=device)
    return Inputs(features.requires_grad_(backward), grad_strips)


def expected(case: Case, _answer: str) -> Outputs:
    """Outputs of the reference in float64."""
    features, grad_strips = inputs_of(case)
    exact = features.detach().double().requires_grad_(features.requires_grad)
    return _outputs(lambda maps: reference.horizontal_pyramid_pooling(maps, BINS), exact, grad_strips.double())


def tolerance(case: Case, _precision: str) -> dict[str, float]:
    """Largest deviations, relative to the largest entry: sums of a strip's pixels, and of a few gradients."""
    pixels = int(case.settings["H"]) * int(case.settings["W"])
    bound = relative_bound(torch.float32, pixels**0.5)
    return {"strips": bound, "grad_features": bound}


def _outputs(pooling: Pooling, features: Tensor, grad_strips: Tensor) -> dict[str, Tensor]:
    strips = pooling(features)
    if not features.requires_grad:
        return {"strips": strips}
    return {"strips": strips, "grad_features": torch.autograd.grad(strips, features, grad_strips)[0]}


def job_of(pooling: Pooling, case: Case) -> Job:
    """The job that runs ``pooling`` forward, or forward and backward, as the case says."""
    return functools.partial(_outputs, pooling, *inputs_of(case))


def loop_over_bins(features: Tensor) -> Tensor:
    """As the code of GaitSet and of its successors pools: each bin a view, its mean and its maximum."""
    images, channels = features.shape[:2]
    pooled = []
    for count in BINS:
        strips = features.reshape(images, channels, count, -1)
        pooled.append(strips.mean(-1) + strips.max(-1)[0])
    return torch.cat(pooled, -1)


def adaptive(features: Tensor) -> Tensor:
    """torch's adaptive pooling, a mean and a maximum a bin."""
    functional = torch.nn.functional
    pooled = [
        functional.adaptive_avg_pool2d(features, (count, 1)) + functional.adaptive_max_pool2d(features, (count, 1))
        for count in BINS
    ]
    return torch.cat(pooled, -2).squeeze(-1)


def pyramid(features: Tensor) -> Tensor:
    """The strongest plain PyTorch we know: rows first, then means and maxima of the finer bin's."""
    mean, largest = features.mean(-1), features.amax(-1)  # (N, C, H)
    finest = max(BINS)
    if features.shape[-2] > finest:
        mean, largest = (rows.unflatten(-1, (finest, -1)) for rows in (mean, largest))
        mean, largest = mean.mean(-1), largest.amax(-1)
    pooled = []
    for count in sorted(BINS, reverse=True):
        if count < finest:
            mean, largest = (finer.unflatten(-1, (count, -1)) for finer in (mean, largest))
            mean, largest = mean.mean(-1), largest.amax(-1)
        pooled.append(mean + largest)
    return torch.cat(pooled[::-1], -1)


def _fused(features: Tensor) -> Tensor:
    from sgela_fast.ops.horizontal_pyramid_pooling import horizontal_pyramid_pooling

    return horizontal_pyramid_pooling(features, BINS, backend="fused")


@functools.cache
def _compiled(pooling: Pooling, _kind: tuple[object, ...]) -> Pooling:
    """One compiled function for all cases that differ in the number of images alone."""
    compiled: Pooling = torch.compile(pooling, dynamic=False)
    return compiled


def _compiled_job(pooling: Pooling, case: Case) -> Job:
    features, grad_strips = inputs_of(case)
    for tensor in (features, grad_strips):
        if tensor.shape[0] > 1:
            torch._dynamo.mark_dynamic(tensor, 0)
    kind = tuple(case.settings[name] for name in ("C", "H", "W", "layout", "backward"))
    return job_of(_compiled(pooling, (case.settings["images"] == 1, *kind)), case)


def prepare_fused(case: Case) -> Job:
    """This package's kernels."""
    from sgela_fast.ops.horizontal_pyramid_pooling import why_not_fused

    reason = why_not_fused(case.device, torch.float32)
    if reason is not None:
        raise Unavailable(reason)
    return job_of(_fused, case)


def prepare_eager(case: Case) -> Job:
    """The loop over bins."""
    return job_of(loop_over_bins, case)


def prepare_compiled(case: Case) -> Job:
    """The loop over bins, compiled."""
    return _compiled_job(loop_over_bins, case)


def prepare_adaptive(case: Case) -> Job:
    """Adaptive pooling."""
    return job_of(adaptive, case)


def prepare_pyramid(case: Case) -> Job:
    """Rows first."""
    return job_of(pyramid, case)


def prepare_compiled_pyramid(case: Case) -> Job:
    """Rows first, compiled."""
    return _compiled_job(pyramid, case)


PROVIDERS = (
    Provider("fused", prepare_fused, graph=True),
    Provider("eager", prepare_eager, note="a loop over bins: view, mean, max", graph=True),
    Provider("compile", prepare_compiled, note="torch.compile of the loop", compiles=True, graph=True),
    Provider("adaptive", prepare_adaptive, note="adaptive_avg_pool2d and adaptive_max_pool2d a bin", graph=True),
    Provider("rows first", prepare_pyramid, note="means and maxima of rows, combined (amax shares ties)", graph=True),
    Provider(
        "rows first, compile", prepare_compiled_pyramid, note="torch.compile of rows first", compiles=True, graph=True
    ),
)
