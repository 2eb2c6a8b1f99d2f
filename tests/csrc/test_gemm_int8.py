"""Products of int8 on the CPU: every instruction set that runs here finds the integers of plain PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.reference.int8 import Int8Matrix, multiply, quantise, quantise_rows

extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")

LIBRARY: Any = importlib.import_module("sgela_fast.ops._library").LIBRARY
LIBRARY.define("int8_product(Tensor a, Tensor b, Tensor scales) -> Tensor")

SHAPES = [(1, 1, 1), (2, 16, 4), (3, 33, 5), (4, 70, 3), (7, 64, 130), (13, 20, 257), (72, 40, 64), (1, 100, 1000)]


@pytest.fixture(autouse=True, params=extension.build_info()["isas"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    extension.force_isa(request.param)
    yield str(request.param)
    extension.force_isa("")


def int8_product(a: Tensor, b: Int8Matrix) -> Tensor:
    product: Tensor = torch.ops.sgela_fast.int8_product.default(a, b.values, b.scale)
    return product


def integers(rows: int, columns: int, depth: int) -> tuple[Tensor, Int8Matrix]:
    """Rows whose scale is 1, because they hold 127, and weights of scale 1: the product is the sum of integers."""
    a = torch.randint(-127, 128, (rows, depth)).float()
    a[:, depth // 2] = 127
    return a, Int8Matrix(torch.randint(-127, 128, (columns, depth), dtype=torch.int8), torch.ones(columns))


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_integers_are_exact(shape: tuple[int, int, int]) -> None:
    a, b = integers(*shape)
    assert torch.equal(int8_product(a, b), (a.double() @ b.values.double().T).float())


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_integers_do_not_saturate(sign: int) -> None:
    a = torch.full((7, 1000), 127.0)
    b = Int8Matrix(torch.full((40, 1000), sign * 127, dtype=torch.int8), torch.ones(40))
    assert torch.equal(int8_product(a, b), torch.full((7, 40), sign * 127.0 * 127.0 * 1000))


@pytest.mark.parametrize("shape", SHAPES)
def test_quantising_and_multiplying_give_the_bits_of_plain_pytorch(shape: tuple[int, int, int]) -> None:
    rows, columns, depth = shape
    a, b = torch.randn(rows, depth), quantise(torch.randn(1, columns, depth))
    assert torch.equal(int8_product(a, Int8Matrix(b.values[0], b.scale[0])), multiply(a[None], b)[0])


def test_halves_are_rounded_to_even() -> None:
    a = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]])
    b = Int8Matrix(torch.eye(8, dtype=torch.int8), torch.ones(8))
    assert int8_product(a, b).tolist() == [[127, 0, 2, 2, 0, -2, -2, 126]]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("depth", [1, 5, 40])
def test_a_row_that_is_not_finite_gives_nan_and_no_other_does(value: float, depth: int) -> None:
    a, b = torch.randn(20, depth), quantise(torch.randn(1, 50, depth))
    a[7, depth - 1] = value
    expected = torch.zeros(20, 50, dtype=torch.bool)
    expected[7] = True
    assert torch.equal(int8_product(a, Int8Matrix(b.values[0], b.scale[0])).isnan(), expected)
    assert torch.equal(multiply(a[None], b)[0].isnan(), expected)


def test_rows_of_zeros_and_of_the_smallest_numbers_give_zeros() -> None:
    a = torch.tensor([[0.0, 0.0], [0.0, -0.0], [1e-45, -1e-45], [1e-31, 1e-38]])
    b = Int8Matrix(torch.tensor([[127, -127]], dtype=torch.int8), torch.ones(1))
    assert torch.equal(int8_product(a, b), torch.zeros(4, 1))
    values, scale = quantise_rows(a)
    assert not values.any()
    assert not scale.any()


def test_rows_of_the_largest_numbers_are_quantised_like_others() -> None:
    largest = torch.finfo(torch.float32).max / 2
    a = torch.tensor([[largest, -largest / 3, 0.0], [1e-30, 3e-31, -1e-30]])
    b = Int8Matrix(torch.eye(3, dtype=torch.int8), torch.ones(3))
    assert torch.equal(int8_product(a, b), multiply(a[None], Int8Matrix(b.values[None], b.scale[None]))[0])
    assert quantise_rows(a)[0].tolist() == [[127, -42, 0], [127, 38, -127]]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 14, 200])
def test_a_row_does_not_depend_on_the_rows_beside_it(rows: int) -> None:
    a, weights = torch.randn(rows, 300), quantise(torch.randn(1, 70, 300))
    b = Int8Matrix(weights.values[0], weights.scale[0])
    together = int8_product(a, b)
    assert all(torch.equal(together[i : i + 1], int8_product(a[i : i + 1], b)) for i in range(rows))


def test_tensors_that_do_not_fit_are_refused() -> None:
    a, b = integers(2, 3, 4)
    with pytest.raises(RuntimeError, match="int8_product takes a"):
        int8_product(a[:, :3], b)
    with pytest.raises(RuntimeError, match="int8_product takes float32, int8 and float32"):
        int8_product(a.double(), b)
