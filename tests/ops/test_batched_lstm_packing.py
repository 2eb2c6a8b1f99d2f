"""Packed weights are kept from call to call, and never used for weights that have become other ones."""

from __future__ import annotations

import copy
import gc
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sgela_fast.nn import BatchedLSTM
from sgela_fast.ops import _lstm_packing as packing
from sgela_fast.ops import batched_lstm as op
from tests.ops.lstm_cases import Case, draw, needs_kernels

pytestmark = needs_kernels


class Packs:
    """Counts how often weights are packed for keeping."""

    def __init__(self) -> None:
        self.count = 0
        self.schema = packing.PACK

    def overload(self, weights: list[Tensor], kind: int) -> Tensor:
        self.count += 1
        return self.schema.overload(weights, kind)


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> Packs:
    packing.forget_packed_weights()
    counter = Packs()
    monkeypatch.setattr(packing, "PACK", counter)
    return counter


@pytest.fixture
def lstm() -> BatchedLSTM:
    return BatchedLSTM(2, 3, 5, 2, backend="fused")


X = torch.linspace(-1, 1, 2 * 4 * 3 * 3).reshape(2, 4, 3, 3)


def is_right(lstm: BatchedLSTM, x: Tensor = X) -> bool:
    """Whether the module computes what its weights say, without gradients and hence with packed weights."""
    with torch.no_grad():
        found = lstm(x).output
        expected = op.batched_lstm(x.double(), [tuple(t.double() for t in layer) for layer in lstm.weights()],
                                   backend="reference").output  # fmt: skip
    return torch.allclose(found.double(), expected, rtol=0, atol=1e-6)


def test_weights_are_packed_once(lstm: BatchedLSTM, packs: Packs) -> None:
    for batch in (1, 4, 2):
        assert is_right(lstm, X[:, :batch])
    assert packs.count == 1


def test_a_call_that_needs_gradients_keeps_nothing(lstm: BatchedLSTM, packs: Packs) -> None:
    lstm(X).output.sum().backward()
    assert packs.count == 0
    lstm.requires_grad_(False)
    lstm(X)
    assert packs.count == 1
    lstm(X.clone().requires_grad_()).output.sum().backward()
    assert packs.count == 1


def sgd_step(lstm: BatchedLSTM) -> None:
    optimiser = torch.optim.SGD(lstm.parameters(), lr=1.0)
    lstm(X).output.sum().backward()
    optimiser.step()


def fused_adam_step(lstm: BatchedLSTM) -> None:
    optimiser = torch.optim.Adam(lstm.parameters(), lr=0.1, fused=True)
    lstm(X).output.sum().backward()
    optimiser.step()


def load_state_dict(lstm: BatchedLSTM) -> None:
    lstm.load_state_dict(BatchedLSTM(2, 3, 5, 2).state_dict())


def assign_state_dict(lstm: BatchedLSTM) -> None:
    lstm.load_state_dict(BatchedLSTM(2, 3, 5, 2).state_dict(), assign=True)


def edit_in_place(lstm: BatchedLSTM) -> None:
    with torch.no_grad():
        lstm.get_parameter("weight_hh_l1").mul_(-1.5)


def edit_in_inference_mode(lstm: BatchedLSTM) -> None:
    with torch.inference_mode():
        lstm.get_parameter("weight_hh_l1").mul_(-1.5)


def edit_through_data(lstm: BatchedLSTM) -> None:
    before = lstm.weight_hh_l0._version
    lstm.weight_hh_l0.data.mul_(-1.5)
    assert lstm.weight_hh_l0._version == before  # why version counters do not do


def edit_one_number_through_data(lstm: BatchedLSTM) -> None:
    lstm.weight_ih_l1.data[1, 7, 3] += 1


def swap_rows_through_data(lstm: BatchedLSTM) -> None:
    lstm.weight_ih_l0.data.copy_(lstm.weight_ih_l0.data.flip(1))


def turn_signs_through_data(lstm: BatchedLSTM) -> None:
    for parameter in lstm.parameters():
        parameter.data[..., ::2].neg_()


def edit_a_bias_through_data(lstm: BatchedLSTM) -> None:
    lstm.bias_hh_l1.data.sub_(0.5)


def edit_through_numpy(lstm: BatchedLSTM) -> None:
    lstm.weight_hh_l1.detach().numpy()[:] *= -1.5


def swap_data(lstm: BatchedLSTM) -> None:
    lstm.weight_hh_l0.data = -1.5 * lstm.weight_hh_l0.data


def swap_data_and_reuse_the_memory(lstm: BatchedLSTM) -> None:
    for _ in range(20):  # some of them lie where the packed ones lay
        lstm.weight_hh_l0.data = -1.1 * lstm.weight_hh_l0.data


def replace_a_parameter(lstm: BatchedLSTM) -> None:
    lstm.weight_hh_l1 = nn.Parameter(-1.5 * lstm.weight_hh_l1.detach())


def to_float64_and_back(lstm: BatchedLSTM) -> None:
    lstm.double().float()
    lstm.weight_hh_l0.data.mul_(-1.5)


CHANGES = [
    sgd_step,
    fused_adam_step,
    load_state_dict,
    assign_state_dict,
    edit_in_place,
    edit_in_inference_mode,
    edit_through_data,
    edit_one_number_through_data,
    swap_rows_through_data,
    turn_signs_through_data,
    edit_a_bias_through_data,
    edit_through_numpy,
    swap_data,
    swap_data_and_reuse_the_memory,
    replace_a_parameter,
    to_float64_and_back,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_packed_weights_follow(
    change: Callable[[BatchedLSTM], None], mode: Any, lstm: BatchedLSTM, packs: Packs
) -> None:
    with mode():
        before = lstm(X).output.clone()
    change(lstm)
    with mode():
        after = lstm(X).output.clone()
    assert not torch.allclose(before, after, atol=1e-4)
    assert is_right(lstm)
    assert packs.count == 2


def test_weights_made_in_inference_mode_are_followed_too(packs: Packs) -> None:
    with torch.inference_mode():
        lstm = BatchedLSTM(2, 3, 5, 2, backend="fused")
        assert is_right(lstm)
        lstm.weight_hh_l1.mul_(-1.5)
        assert is_right(lstm)
    assert packs.count == 2


def test_a_hash_tells_contents_shapes_and_dtypes_apart() -> None:
    base = torch.randn(6, 40)
    variants = [
        base,
        base.flip(0),
        base.flip(1),
        -base,
        base.view(40, 6),
        base.view(torch.int32),
        base[:5],
        base[:, :0],
    ]
    variants += [torch.zeros(6, 40), torch.zeros(6, 41), torch.zeros(240)]
    for row, column in itertools.product((0, 3, 5), (0, 1, 17, 38, 39)):
        variants.append(base.clone())
        variants[-1][row, column] = torch.nextafter(base[row, column], torch.tensor(9.0))
        variants.append(base.clone())
        variants[-1][row, column] *= -1
    hashes = {packing.CONTENT_HASH.overload([variant.contiguous()]) for variant in variants}
    assert len(hashes) == len(variants)
    assert packing.CONTENT_HASH.overload([base.clone()]) == packing.CONTENT_HASH.overload([base])
    pairs = ([base, -base], [-base, base], [base], [base, base])
    assert len({packing.CONTENT_HASH.overload(pair) for pair in pairs}) == len(pairs)


def test_a_hash_sees_every_byte() -> None:
    for size in (1, 7, 8, 127, 128, 129, 300):
        data = torch.randint(0, 256, (size,), dtype=torch.uint8)
        hashes = {packing.CONTENT_HASH.overload([data])}
        for i in range(size):
            data[i] ^= 0x80
            hashes.add(packing.CONTENT_HASH.overload([data]))
            data[i] ^= 0x80
        assert len(hashes) == size + 1


@pytest.mark.parametrize("values", ["random", "zeros and ones"])
def test_a_hash_sees_every_exchange_and_every_pair_of_turned_signs(values: str) -> None:
    # Two changes might undo each other in the hash, were its steps as simple as sums.
    data = torch.randn(300) if values == "random" else torch.arange(300.0).remainder(3) + 1
    unchanged = packing.CONTENT_HASH.overload([data])
    for i, distance in itertools.product(range(0, 150, 7), range(1, 150)):
        j = i + distance
        exchanged, turned = data.clone(), data.clone()
        exchanged[i], exchanged[j] = data[j], data[i]
        turned[i], turned[j] = -data[i], -data[j]
        assert packing.CONTENT_HASH.overload([turned]) != unchanged
        if data[i] != data[j]:
            assert packing.CONTENT_HASH.overload([exchanged]) != unchanged


def test_packed_weights_go_with_the_module(packs: Packs) -> None:
    lstm = BatchedLSTM(2, 3, 5, backend="fused")
    assert is_right(lstm)
    assert len(packing._CACHE) == 1
    del lstm
    gc.collect()
    assert len(packing._CACHE) == 0


def test_forgetting_gives_the_memory_back(lstm: BatchedLSTM, packs: Packs) -> None:
    assert is_right(lstm)
    packing.forget_packed_weights()
    assert len(packing._CACHE) == 0
    assert is_right(lstm)


def test_a_copy_has_packed_weights_of_its_own(lstm: BatchedLSTM, packs: Packs) -> None:
    assert is_right(lstm)
    other = copy.deepcopy(lstm)
    edit_through_data(other)
    assert is_right(other)
    assert is_right(lstm)
    assert packs.count == 2


def test_layers_that_share_their_first_weight_are_not_mixed_up(packs: Packs) -> None:
    inputs = draw(Case(dtype=torch.float32, layers=2, state=False))
    for depth in (1, 2, 1):
        with torch.no_grad():
            found = op.batched_lstm(inputs.input, inputs.weights[:depth], backend="fused").output
            expected = op.batched_lstm(inputs.input, inputs.weights[:depth], backend="reference").output
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_nothing_is_kept_where_it_cannot_be_checked(lstm: BatchedLSTM, packs: Packs) -> None:
    lstm.requires_grad_(False)
    torch.compile(lstm, backend="aot_eager", fullgraph=True)(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lstm(X)
    torch.func.vmap(lambda x: lstm(x).output)(X[None])
    strided = [
        tuple(tensor.mT.contiguous().mT if tensor.dim() == 3 else tensor for tensor in layer)
        for layer in lstm.weights()
    ]
    op.batched_lstm(X, strided, backend="fused")
    assert packs.count == 0


def test_threads_may_call_while_another_one_trains(lstm: BatchedLSTM) -> None:
    stop, wrong = threading.Event(), []

    def call() -> None:
        with torch.no_grad():
            while not stop.is_set():
                if not lstm(X).output.isfinite().all():
                    wrong.append(1)

    workers = [threading.Thread(target=call) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(20):
        sgd_step(lstm)
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong
    assert is_right(lstm)
