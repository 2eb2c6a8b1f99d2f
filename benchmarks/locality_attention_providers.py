"""Who computes locality-aware attention in ``benchmarks.locality_attention``, and the float64 answer they are held to.

Inputs look like an LSTM's states, which lie in (-1, 1): scores of K = 256 have a standard deviation of about 3. The
value is the key, as in the paper, and the loss counts towards the gradients (mode ``las``). Gradients are those of
sum(context * random) + sum(loss).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.benchmarks.tolerances import relative_bound, score_magnitude
from sgela_fast.reference import locality_attention as reference

Results = tuple[Tensor, ...]
# A function of query, key and sigma that returns the context and, if it computes one, the loss per sequence.
Attention = Callable[[Tensor, Tensor, float], Results]

OUTPUTS = ("context", "loss", "grad_query", "grad_key")
# Alternatives may round the weights and their gradients to the storage dtype too, which the op does not.
ALTERNATIVES_FACTOR = 4
# TF32 keeps 11 bits of each factor: up to 1e-2 in scores, and as much, relatively, in weights.
TF32_TOLERANCE = 6e-2


class Inputs(NamedTuple):
    """Inputs of a case: ``query (B, Tq, K)``, ``key (B, Tk, K)`` and the context's gradient ``(B, Tq, K)``."""

    query: Tensor
    key: Tensor
    grad_context: Tensor


def inputs_of(case: Case) -> Inputs:
    """Inputs of a case, the same for all providers."""
    shape = tuple(int(case.settings[name]) for name in ("B", "Tq", "Tk", "K"))
    return _draw(shape, case.dtype, case.device, bool(case.settings["backward"]))


@functools.lru_cache(maxsize=1)
def _draw(shape: tuple[int, ...], dtype: str, device: str, backward: bool) -> Inputs:
    batch, queries, keys, width = shape
    generator = torch.Generator(device).manual_seed(0)

    def drawn(rows: int) -> Tensor:
        return torch.randn(batch, rows, width, generator=generator, device=device)

    query, key = (torch.tanh(drawn(rows) / 2).to(getattr(torch, dtype)) for rows in (queries, keys))
    grad_context = drawn(queries).to(query.dtype)
    return Inputs(query.requires_grad_(backward), key.requires_grad_(backward), grad_context)


def expected(case: Case, answer: str) -> Outputs:
    """Outputs of the reference in float64, one sequence after another where its matrices are large."""
    given = inputs_of(case)
    with_loss = answer == "full"
    parts = []
    chunk = max(1, 2**22 // (given.query.shape[1] * given.key.shape[1]))
    for query, key, grad in zip(*(tensor.split(chunk) for tensor in given), strict=True):
        leaves = (query.detach().double(), key.detach().double())
        for leaf in leaves:
            leaf.requires_grad_(bool(case.settings["backward"]))
        results = _eager(*leaves, float(case.settings["sigma"]))[: 2 if with_loss else 1]
        parts.append(_named(results, *leaves, grad.double()))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def tolerance(case: Case, _precision: str) -> dict[str, float]:
    """Largest deviations, relative to the largest entry, from the table of the op's own tests."""
    query, key, _ = (tensor[:8, :64].detach() for tensor in inputs_of(case))  # all sequences and rows are alike
    magnitude = score_magnitude(query, key)
    # The loss is float32 whatever the inputs.
    bounds = {name: ALTERNATIVES_FACTOR * relative_bound(query.dtype, magnitude) for name in OUTPUTS}
    bounds["loss"] = ALTERNATIVES_FACTOR * relative_bound(torch.float32, magnitude)
    if case.dtype == "float32" and case.settings["precision"] == "tf32":
        bounds = dict.fromkeys(bounds, TF32_TOLERANCE)
    return bounds


def job_of(attention: Attention, case: Case) -> Job:
    """The job that runs ``attention`` forward, or forward and backward, as the case says."""
    query, key, grad_context = inputs_of(case)
    sigma = float(case.settings["sigma"])

    def job() -> Outputs:
        return _named(attention(query, key, sigma), query, key, grad_context)

    return job


def _named(results: Results, query: Tensor, key: Tensor, grad_context: Tensor) -> dict[str, Tensor]:
    """Outputs by name; with gradients of those that require them."""
    outputs = dict(zip(("context", "loss"), results, strict=False))
    if query.requires_grad:
        gradients = torch.autograd.grad(results, (query, key), (grad_context, *map(torch.ones_like, results[1:])))
        outputs |= {"grad_query": gradients[0], "grad_key": gradients[1]}
    return outputs


def _eager(query: Tensor, key: Tensor, sigma: float) -> Results:
    """The reference; narrow dtypes are computed in float32 as the op promises, which is also faster on the CPU."""
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    found = reference.locality_attention(query.to(exact), key.to(exact), sigma=sigma)
    return found.context.to(query.dtype), found.loss


def _sdpa(query: Tensor, key: Tensor, _sigma: float) -> Results:
    heads = key[:, None]  # (B, 1, Tk, K)
    return (torch.nn.functional.scaled_dot_product_attention(query[:, None], heads, heads, scale=1.0)[:, 0],)


def flex_with_loss(query: Tensor, key: Tensor, sigma: float) -> Results:
    """FlexAttention's context, and L_A from a second call.

    With S = log sum_j exp(s_j), the row's loss is sum_j exp(2 s_j) (1 - l_j)^2 / exp(2 S), whose logarithm is the
    log-sum-exp of 2 s_j + 2 log(1 - l_j), which FlexAttention returns, less 2 S.
    """
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    last = key.shape[-2] - 1

    def squared(score: Tensor, _b: Tensor, _h: Tensor, row: Tensor, column: Tensor) -> Tensor:
        offset = (column - (last - row)).to(score.dtype)
        return 2 * score + 2 * torch.log(-torch.expm1(-(offset * offset) / (2 * sigma**2)))

    queries, keys = query[:, None], key[:, None]  # (B, 1, T, K)
    request = AuxRequest(lse=True)
    context, plain = flex_attention(queries, keys, keys, scale=1.0, return_aux=request)
    _, masked = flex_attention(queries, keys, keys, squared, scale=1.0, return_aux=request)
    assert masked.lse is not None
    assert plain.lse is not None
    return context[:, 0], torch.exp(masked.lse - 2 * plain.lse).sum(-1)[:, 0]


def _fused(query: Tensor, key: Tensor, sigma: float) -> Results:
    from sgela_fast.ops.locality_attention import locality_attention

    found = locality_attention(query, key, sigma=sigma, backend="fused")
    return found.context, found.loss


@functools.cache
def _compiled(attention: Attention, mode: str, _shapes: tuple[object, ...]) -> Attention:
    """One compiled function for all cases that differ in dynamic sizes alone."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(attention, fullgraph=True, mode=mode)


def _compiled_job(attention: Attention, mode: str, case: Case) -> Job:
    """A job of a function compiled for the batch as a dynamic size; for long sequences their length is one as well."""
    query, key, grad_context = inputs_of(case)
    long = case.settings["family"] == "long"
    for tensor in (query, key, grad_context):
        # A size of 1 is compiled on its own.
        if tensor.shape[0] > 1:
            torch._dynamo.mark_dynamic(tensor, 0)
        if long:
            torch._dynamo.mark_dynamic(tensor, 1)
    sizes = () if long else (case.settings["Tq"], case.settings["Tk"])
    shapes = (case.settings["B"] == 1, case.settings["K"], *sizes, case.dtype, case.settings["backward"])
    return job_of(_compiled(attention, mode, shapes), case)


def prepare_eager(case: Case) -> Job:
    """The reference."""
    return job_of(_eager, case)


def prepare_compiled(case: Case) -> Job:
    """The reference, compiled."""
    return _compiled_job(_eager, "default", case)


def prepare_autotuned(case: Case) -> Job:
    """The reference, compiled with a search over kernels: on CUDA, and where K is 64 for long or 256 for short ones."""
    if case.device != "cuda":
        raise Unavailable("max-autotune searches over GPU kernels")
    if case.settings["K"] != (64 if case.settings["family"] == "long" else 256) or case.settings["Tq"] == 1:
        raise Unavailable("the search takes minutes, so that it is made for few cases")
    return _compiled_job(_eager, "max-autotune-no-cudagraphs", case)


def prepare_sdpa(case: Case) -> Job:
    """SDPA: the context alone."""
    return job_of(_sdpa, case)


def prepare_flex(case: Case) -> Job:
    """FlexAttention with the loss from a second call."""
    if case.device == "cpu":
        raise Unavailable("compiled FlexAttention on the CPU returns no log-sum-exp and has no backward")
    return _compiled_job(flex_with_loss, "default", case)


def prepare_fused(case: Case) -> Job:
    """This package's kernels."""
    from sgela_fast.ops.locality_attention import why_not_fused

    reason = why_not_fused(case.device, getattr(torch, case.dtype))
    if reason is not None:
        raise Unavailable(reason)
    return job_of(_fused, case)


PROVIDERS = (
    Provider("fused", prepare_fused, graph=True),
    Provider("eager", prepare_eager, note="reference", graph=True),
    Provider("compile", prepare_compiled, note="torch.compile of the reference", compiles=True, graph=True),
    Provider("autotune", prepare_autotuned, note="torch.compile with max-autotune", compiles=True, graph=True),
    Provider("SDPA, no loss", prepare_sdpa, answer="context", note="context alone: no loss in either pass", graph=True),
    Provider("Flex", prepare_flex, note="two FlexAttention calls for the exact loss", compiles=True, graph=True),
)
