"""Graphs of small batches: which calls share one, what is copied, what is given back; replay itself on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sgela_fast.ops.cuda_graphs import BUCKETS, GraphedCall


class Repeating:
    """Stands in for CUDA's graphs: a replay runs the call again and writes where the first one has written."""

    def __init__(self) -> None:
        self.captured = 0
        self.replayed = 0

    def why_not(self, tensor: Tensor) -> str | None:
        return "it is sparse" if tensor.is_sparse else None

    def capture(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.captured += 1
        results = call()

        def replay() -> None:
            self.replayed += 1
            for result, again in zip(results, call(), strict=True):
                result.copy_(again)

        return replay, results


class Pair(NamedTuple):
    double: Tensor
    total: Tensor


def pair(x: Tensor, offset: Tensor) -> Pair:
    return Pair(2 * x + offset, x.sum(-1))


@pytest.fixture
def backend() -> Repeating:
    return Repeating()


def graphed(backend: Repeating, **options: Any) -> GraphedCall:
    return GraphedCall(pair, batch_dims=(1, None), result_dims=(1, 1), backend=backend, **options)


@pytest.mark.parametrize("batch", [1, 3, 8, 100, 128])
def test_results_are_those_of_the_function_by_name(batch: int, backend: Repeating) -> None:
    call = graphed(backend)
    for _ in range(2):
        x, offset = torch.randn(3, batch, 4), torch.randn(4)
        found, wanted = call(x, offset), pair(x, offset)
        assert torch.equal(found.double, wanted.double)
        assert torch.equal(found.total, wanted.total)


def test_one_tensor_comes_back_as_a_tensor(backend: Repeating) -> None:
    call = GraphedCall(torch.tanh, batch_dims=[0], result_dims=[0], backend=backend)
    x = torch.randn(3, 2)
    assert torch.equal(call(x), x.tanh())


def test_batches_of_one_bucket_share_a_graph(backend: Repeating) -> None:
    call = graphed(backend)
    for batch in (5, 8, 6, 7):
        call(torch.randn(3, batch, 4), torch.zeros(4))
    assert (backend.captured, backend.replayed, len(call)) == (1, 4, 1)
    call(torch.randn(3, 9, 4), torch.zeros(4))
    assert (backend.captured, len(call)) == (2, 2)


@pytest.mark.parametrize("other", [torch.zeros(3, 8, 5), torch.zeros(2, 8, 4), torch.zeros(3, 8, 4).double()])
def test_other_shapes_and_dtypes_have_graphs_of_their_own(other: Tensor, backend: Repeating) -> None:
    call = graphed(backend)
    call(torch.zeros(3, 8, 4), torch.zeros(4))
    call(other, torch.zeros(other.shape[-1], dtype=other.dtype))
    assert backend.captured == 2


def test_strided_inputs_are_copied_as_they_are_seen(backend: Repeating) -> None:
    call = graphed(backend)
    x = torch.randn(4, 8, 3).transpose(0, 2)
    assert torch.equal(call(x, torch.zeros(4)).double, 2 * x)
    assert torch.equal(call(torch.ones(1, 1, 4).expand(3, 8, 4), torch.zeros(4)).double, torch.full((3, 8, 4), 2.0))
    assert backend.captured == 1


def test_results_outlive_the_next_call(backend: Repeating) -> None:
    call = graphed(backend)
    x = torch.randn(3, 2, 4)
    first = call(x, torch.zeros(4))
    call(-x, torch.zeros(4))
    assert torch.equal(first.double, 2 * x)


def test_large_and_empty_batches_are_called_without_a_graph(backend: Repeating) -> None:
    call = graphed(backend)
    for batch in (0, BUCKETS[-1] + 1):
        assert call(torch.zeros(3, batch, 4), torch.zeros(4)).double.shape == (3, batch, 4)
    assert backend.captured == 0


def test_the_graph_that_was_not_used_for_longest_is_given_back(backend: Repeating) -> None:
    call = graphed(backend, limit=2)
    sizes = {batch: torch.zeros(3, batch, 4) for batch in (1, 2, 4)}
    for batch in (1, 2, 1, 4):  # 2 goes
        call(sizes[batch], torch.zeros(4))
    assert (backend.captured, len(call)) == (3, 2)
    call(sizes[1], torch.zeros(4))
    assert backend.captured == 3
    call(sizes[2], torch.zeros(4))
    assert (backend.captured, len(call)) == (4, 2)


def test_forgotten_graphs_are_captured_again(backend: Repeating) -> None:
    call = graphed(backend)
    call(torch.zeros(3, 2, 4), torch.zeros(4))
    call.forget()
    assert len(call) == 0
    call(torch.zeros(3, 2, 4), torch.zeros(4))
    assert backend.captured == 2


def test_weights_changed_in_place_are_followed(backend: Repeating) -> None:
    weight = torch.ones(4)
    call = GraphedCall(lambda x: x * weight, batch_dims=[0], result_dims=[0], backend=backend)
    x = torch.randn(2, 4)
    call(x)
    weight.mul_(3)
    assert torch.equal(call(x), 3 * x)
    assert backend.captured == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": ()}, "give one batch or more"),
        ({"buckets": (0, 4)}, "each 1 or more"),
        ({"limit": 0}, "limit is 0; it must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str, backend: Repeating) -> None:
    with pytest.raises(ValueError, match=message):
        graphed(backend, **options)
    with pytest.raises(ValueError, match="one input must have a batch"):
        GraphedCall(pair, batch_dims=(None, None), result_dims=(0, 0), backend=backend)


def test_inputs_that_do_not_fit_are_refused(backend: Repeating) -> None:
    call = GraphedCall(torch.add, batch_dims=(0, 0), result_dims=(0,), backend=backend)
    with pytest.raises(ValueError, match="there are 1 inputs and 2 batch_dims"):
        call(torch.zeros(2))
    with pytest.raises(ValueError, match=r"batches of \[2, 3\]; they must be equal"):
        call(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="input 1 has no graph: it is sparse; call the function itself"):
        call(torch.zeros(2), torch.zeros(2).to_sparse())
    with pytest.raises(RuntimeError, match=r"input 0 requires a gradient, and graphs record none"):
        call(torch.zeros(2, requires_grad=True), torch.zeros(2))
    with pytest.raises(ValueError, match="the call has 1 results and 2 result_dims"):
        GraphedCall(torch.neg, batch_dims=[0], result_dims=[0, 0], backend=backend)(torch.zeros(2))


def test_tensors_on_the_cpu_are_refused_with_the_way_out() -> None:
    call = GraphedCall(torch.neg, batch_dims=[0], result_dims=[0])
    with pytest.raises(ValueError, match="it is on cpu, and CUDA graphs need a CUDA device; call the function itself"):
        call(torch.zeros(2))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replays_equal_eager_calls(dtype: torch.dtype) -> None:
    from sgela_fast.ops.attention_decoder import attention_decoder
    from sgela_fast.ops.batched_lstm import batched_lstm
    from tests.ops import decoder_cases, lstm_cases

    case = lstm_cases.Case(inputs=20, hidden=64, dtype=dtype, state=False)
    layers = lstm_cases.draw(case, "cuda").weights
    decoder = decoder_cases.draw(decoder_cases.PAPER._replace(hidden=64, joints=20, dtype=dtype))
    weights = decoder.each(lambda tensor: tensor.cuda()).weights

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        encoded, state = batched_lstm(x, layers, backend="fused")
        contexts = attention_decoder(
            encoded, state, weights, steps=6, feedback=True, outputs="context", backend="fused"
        )
        return encoded, contexts

    call = GraphedCall(encode, batch_dims=[1], result_dims=[1, 1])
    for batch in (1, 3, 2, 60, 1):
        x = torch.randn(3, batch, 6, 20, device="cuda", dtype=dtype)
        found = call(x)
        with torch.no_grad():
            wanted = encode(x)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 2e-2)
    assert len(call) == 4
