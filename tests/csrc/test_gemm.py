"""Matrix products from packed panels, as the CPU kernels use them: every instruction set that runs here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")

LIBRARY = torch.library.Library("sgela_fast", "FRAGMENT")
LIBRARY.define("packed_product(Tensor a, Tensor b, Tensor? c, bool a_transposed, bool b_transposed) -> Tensor")

# Rows, columns, depth: below, at and above the tiles, panels and blocks of every instruction set.
SHAPES = [
    (1, 1, 1),
    (1, 64, 300),
    (2, 130, 7),
    (3, 33, 256),
    (4, 5, 257),
    (6, 16, 0),
    (13, 47, 64),
    (64, 96, 513),
    (193, 40, 31),
    (400, 8, 20),
]


@pytest.fixture(params=extension.build_info()["isas"], autouse=True)
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    extension.force_isa(request.param)
    yield
    extension.force_isa("")


def packed_product(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, a_transposed: bool = False, b_transposed: bool = False
) -> Tensor:
    return torch.ops.sgela_fast.packed_product.default(a, b, c, a_transposed, b_transposed)


def assert_within_rounding(found: Tensor, a: Tensor, b: Tensor, c: Tensor | None = None) -> None:
    """A sum of ``n`` products is off by at most about ``n`` roundings of the sum of their sizes."""
    exact, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    if c is not None:
        exact, size = exact + c.double(), size + c.double().abs()
    bound = (a.shape[1] + 1) * torch.finfo(found.dtype).eps * size + torch.finfo(found.dtype).tiny
    assert found.shape == exact.shape
    assert bool(((found.double() - exact).abs() <= bound).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_product_equals_matmul(
    shape: tuple[int, int, int], dtype: torch.dtype, a_transposed: bool, b_transposed: bool
) -> None:
    rows, columns, depth = shape
    a, b = torch.randn(rows, depth, dtype=dtype), torch.randn(depth, columns, dtype=dtype)
    stored_a = a.T.contiguous() if a_transposed else a
    stored_b = b.T.contiguous() if b_transposed else b
    found = packed_product(stored_a, stored_b, a_transposed=a_transposed, b_transposed=b_transposed)
    assert_within_rounding(found, a, b)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("a_transposed", [False, True])
def test_product_is_added_to_what_is_there(shape: tuple[int, int, int], a_transposed: bool) -> None:
    rows, columns, depth = shape
    a, b, c = torch.randn(rows, depth), torch.randn(depth, columns), torch.randn(rows, columns)
    found = packed_product(a.T.contiguous() if a_transposed else a, b, c, a_transposed=a_transposed)
    assert_within_rounding(found, a, b, c)


def test_no_depth_gives_zeros() -> None:
    assert torch.equal(packed_product(torch.empty(5, 0), torch.empty(0, 19)), torch.zeros(5, 19))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 14, 200])
def test_a_row_does_not_depend_on_the_rows_beside_it(rows: int) -> None:
    a, b = torch.randn(rows, 300), torch.randn(300, 70)
    together = packed_product(a, b)
    assert all(torch.equal(together[i : i + 1], packed_product(a[i : i + 1], b)) for i in range(rows))


def test_a_column_does_not_depend_on_the_columns_beside_it() -> None:
    a, b = torch.randn(9, 300), torch.randn(300, 70)
    together = packed_product(a, b)
    assert all(torch.equal(together[:, i : i + 1], packed_product(a, b[:, i : i + 1])) for i in range(70))


def test_nan_stays_in_its_row_and_column() -> None:
    a, b = torch.randn(20, 40), torch.randn(40, 50)
    a[7, 3] = float("nan")
    b[5, 11] = float("nan")
    expected = torch.zeros(20, 50, dtype=torch.bool)
    expected[7], expected[:, 11] = True, True
    assert torch.equal(packed_product(a, b).isnan(), expected)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (4, 5)), ((2, 3), (3,))])
def test_shapes_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="packed_product"):
        packed_product(torch.randn(a), torch.randn(b))
