"""Every formula of docs/locality-attention.md, written out as it stands there, in float64."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sgela_fast.ops.locality_attention import locality_attention as op
from sgela_fast.ops.locality_attention import why_not_fused
from sgela_fast.reference.locality_attention import locality_attention as reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "locality-attention.md"
WHY_NOT = why_not_fused("cpu", torch.float32)
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
KINDS = [("las", False), ("las", True), ("mbas", False), ("bas", False)]
SIGMA, SCALE = 1.3, 0.7


class Row(NamedTuple):
    """What the one-pass form leaves of a row."""

    context: Tensor
    loss: float
    log_sum: float
    moment: float


class Case(NamedTuple):
    query: Tensor  # (Tq, K)
    key: Tensor  # (Tk, K)
    value: Tensor  # (Tk, Kv)
    centers: Tensor  # (Tq,)
    padding: Tensor  # (Tk,)
    window: float | None


def draw(window: float | None, padded: int) -> Case:
    padding = torch.zeros(9, dtype=torch.bool)
    padding[torch.randperm(9)[:padded]] = True
    query, key, value = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 3), (9, 3), (9, 5)))
    return Case(3 * query, key, value, 12 * torch.rand(4, dtype=torch.float64) - 1.5, padding, window)


@pytest.fixture(params=[(None, 0), (None, 3), (2.0, 0), (2.0, 3), (2.0, 9)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return draw(*request.param)


def mask(center: float, position: int, window: float | None) -> float:
    offset = position - center
    return 0.0 if window is not None and abs(offset) > window else math.exp(-(offset**2) / (2 * SIGMA**2))


def one_pass(case: Case, t: int, mode: str, detach: bool, blocks: list[list[int]]) -> Row:
    """The documented forward pass of row ``t``, over ``blocks`` of keys."""
    m, z, square, half = -math.inf, 0.0, 0.0, 0.0
    c = torch.zeros(case.value.shape[-1], dtype=torch.float64)
    for block in blocks:
        keys = [j for j in block if not case.padding[j]]
        if not keys:
            continue
        s = {j: SCALE * float(case.query[t] @ case.key[j]) for j in keys}
        new = max(m, *s.values())
        rho = math.exp(m - new)
        e = {j: math.exp(s[j] - new) for j in keys}
        lo = {j: mask(float(case.centers[t]), j, case.window) for j in keys}
        z = rho * z + sum(e.values())
        c = rho * c + torch.stack([(lo[j] if mode == "mbas" else 1) * e[j] * case.value[j] for j in keys]).sum(0)
        square = rho**2 * square + sum(e[j] ** 2 * (1 - lo[j]) ** 2 for j in keys)
        half = rho**2 * half + sum(e[j] ** 2 * (1 - lo[j]) for j in keys)
        m = new
    if z == 0:
        return Row(c, 0.0, math.inf, 0.0)
    loss = square / z**2 if mode == "las" else 0.0
    moment = (half if detach else square) / z**2 if mode == "las" else 0.0
    return Row(c / z, loss, m + math.log(z), moment)


def cut(keys: int, size: int) -> list[list[int]]:
    return [list(range(first, min(first + size, keys))) for first in range(0, keys, size)]


def in_reference(case: Case, mode: Any, detach: bool) -> tuple[Tensor, Tensor]:
    settings: dict[str, Any] = {"centers": case.centers, "sigma": SIGMA, "window": case.window, "scale": SCALE}
    settings |= {"key_padding_mask": case.padding, "mode": mode, "detach_target": detach}
    return reference(case.query, case.key, case.value, **settings)[:2]


@pytest.mark.parametrize("size", [1, 2, 4, 9])
@pytest.mark.parametrize(("mode", "detach"), KINDS)
def test_the_one_pass_form_is_the_reference(case: Case, mode: str, detach: bool, size: int) -> None:
    rows = [one_pass(case, t, mode, detach, cut(9, size)) for t in range(4)]
    context, loss = in_reference(case, mode, detach)
    torch.testing.assert_close(torch.stack([row.context for row in rows]), context, **EXACT)
    torch.testing.assert_close(torch.tensor(sum(row.loss for row in rows), dtype=torch.float64), loss, **EXACT)


def test_the_loss_of_a_row_is_a_quotient_of_sums() -> None:
    case = draw(None, 0)
    scores = SCALE * case.query @ case.key.mT
    w = 1 - torch.exp(-((torch.arange(9) - case.centers[:, None]) ** 2) / (2 * SIGMA**2))
    quotient = (2 * scores + 2 * w.log()).exp().sum(-1) / scores.exp().sum(-1) ** 2
    torch.testing.assert_close(quotient.sum(), in_reference(case, "las", False)[1], **EXACT)


@pytest.mark.parametrize(("mode", "detach"), KINDS)
def test_the_documented_gradients_are_those_of_autograd(case: Case, mode: str, detach: bool) -> None:
    inputs = [case.query, case.key, case.value, case.centers]
    for tensor in inputs:
        tensor.requires_grad_()
    context, loss = in_reference(case, mode, detach)
    upstream, g = torch.randn(4, 5, dtype=torch.float64), 1.7
    exact = torch.autograd.grad((context * upstream).sum() + g * loss, inputs, materialize_grads=True)
    for tensor in inputs:
        tensor.requires_grad_(False)

    grad_query, grad_key, grad_value, grad_centers = (torch.zeros_like(tensor) for tensor in inputs)
    for t in range(4):
        row = one_pass(case, t, mode, detach, cut(9, 4))
        delta = float(upstream[t] @ row.context) + 2 * g * row.moment
        for j in (j for j in range(9) if not case.padding[j]):
            a = math.exp(SCALE * float(case.query[t] @ case.key[j]) - row.log_sum)
            lo = mask(float(case.centers[t]), j, case.window)
            w, mixed = 1 - lo, float(upstream[t] @ case.value[j])
            if mode == "las":
                direct = mixed + 2 * g * a * (w if detach else w**2)
            else:
                direct = lo * mixed if mode == "mbas" else mixed
            ds = a * (direct - delta)
            grad_query[t] += SCALE * ds * case.key[j]
            grad_key[j] += SCALE * ds * case.query[t]
            grad_value[j] += (lo * a if mode == "mbas" else a) * upstream[t]
            by_mask = {"mbas": a * mixed, "las": 0.0 if detach else -2 * g * a**2 * w, "bas": 0.0}[mode]
            grad_centers[t] += by_mask * lo * (j - float(case.centers[t])) / SIGMA**2
    for ours, autograd in zip((grad_query, grad_key, grad_value, grad_centers), exact, strict=True):
        torch.testing.assert_close(ours, autograd, **EXACT)


@pytest.mark.parametrize(("mode", "detach"), KINDS)
def test_delta_is_the_mean_of_the_direct_derivatives(mode: str, detach: bool) -> None:
    case, g = draw(2.0, 0), 1.7
    upstream = torch.randn(5, dtype=torch.float64)
    row = one_pass(case, 0, mode, detach, cut(9, 9))
    a = (SCALE * case.key @ case.query[0] - row.log_sum).exp()
    lo = torch.tensor([mask(float(case.centers[0]), j, 2.0) for j in range(9)], dtype=torch.float64)
    mixed, w = case.value @ upstream, 1 - lo
    direct = {"las": mixed + 2 * g * a * (w if detach else w**2), "mbas": lo * mixed, "bas": mixed}[mode]
    assert math.isclose(float(a @ direct), float(upstream @ row.context) + 2 * g * row.moment, rel_tol=1e-10)


def test_thin_rows_cost_little() -> None:
    for n in (2, 10, 100):
        key = torch.zeros(n, 1, dtype=torch.float64)
        assert 0 < float(reference(key[:1], key, sigma=0.1).loss) <= 1 / n


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_what_is_kept_for_the_backward_pass() -> None:
    query, key = torch.randn(1, 90, 8, requires_grad=True), torch.randn(1, 70, 8, requires_grad=True)

    def kept(backend: Any) -> list[int]:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            op(query, key, sigma=2.0, backend=backend)
        return sorted(sizes.values())

    assert kept("reference").count(90 * 70) == 3
    # query, key, context, and two numbers a row
    assert kept("fused") == sorted([query.numel(), key.numel(), query.numel(), 90, 90])


def test_bytes_and_arithmetic_in_the_table() -> None:
    rows, features, number = 6, 256, 4
    tensor, product = rows * features * number, 2 * rows * rows * features
    per_row, per_sequence = 2 * rows * number, number
    table = PAGE.read_text()
    for figure in (3 * tensor + per_row + per_sequence, 6 * tensor + per_row + per_sequence, 2 * product, 5 * product):
        assert re.search(rf"\b{figure:,}\b", table)
    assert 3 * 4096**2 * number == 192 * 2**20
    assert 4096 * 2 * number == 32 * 2**10


def test_the_figures_about_rounding() -> None:
    exponent = torch.tensor(-0.5e-6)
    exact = -math.expm1(float(exponent))
    assert abs(float(1 - exponent.exp()) / exact - 1) > 0.01
    assert abs(float(-exponent.expm1()) / exact - 1) < 1e-6
    for dtype, spacing, moved in ((torch.bfloat16, 0.25, 0.134), (torch.float16, 0.03125, 0.016)):
        assert 32 * torch.finfo(dtype).eps == spacing
        assert math.isclose(math.expm1(spacing / 2), moved, rel_tol=0.03)
    assert math.isfinite(float(torch.tensor(60.0).exp()))
    assert math.isfinite(float(torch.tensor(88.0).exp()))
    assert math.isinf(float(torch.tensor(90.0).exp()))
