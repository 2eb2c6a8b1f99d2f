"""The CPU kernels of gated_temporal_pooling on every instruction set that runs here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sgela_fast.ops.gated_temporal_pooling import gated_temporal_pooling
from sgela_fast.reference.gated_temporal_pooling import Reduction
from tests.ops.pooling_cases import assert_close_to_exact, draw, outcome

extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")


@pytest.fixture(params=extension.build_info()["isas"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    extension.force_isa(request.param)
    yield str(request.param)
    extension.force_isa("")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("reduce", ["max", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 7, 30, 40, 33), (1, 2, 3, 5, 2)], ids=str)
def test_every_instruction_set_is_exact(shape: tuple[int, ...], dtype: torch.dtype, reduce: Reduction) -> None:
    case = draw(*shape, dtype=dtype)
    lengths = torch.tensor([shape[2], 2, 0, 1, shape[2] + 1, 3, 9])[: shape[1]]
    settings = {"lengths": lengths, "reduce": reduce, "negative_slope": 0.01}
    results = outcome(
        lambda *inputs, **options: gated_temporal_pooling(*inputs, backend="fused", **options), case, **settings
    )
    assert_close_to_exact(results, case, **settings)
