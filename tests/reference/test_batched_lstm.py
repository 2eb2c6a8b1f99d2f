"""The batched LSTM against torch.nn.LSTM, group by group."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState, batched_lstm, lstm_cell
from tests.ops.lstm_cases import layers_of

# The same products in another order: a few units in the last place.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def torch_lstms(groups: int, inputs: int, hidden: int, layers: int, dtype: torch.dtype) -> list[nn.LSTM]:
    return [nn.LSTM(inputs, hidden, layers, batch_first=True).to(dtype) for _ in range(groups)]


def random_state(layers: int, groups: int, batch: int, hidden: int, dtype: torch.dtype) -> LSTMState:
    return LSTMState(*(torch.randn(layers, groups, batch, hidden, dtype=dtype).tanh() for _ in range(2)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("groups", "batch", "steps", "inputs", "hidden", "layers"),
    [(3, 4, 6, 20, 16, 2), (1, 1, 1, 1, 1, 1), (2, 5, 7, 3, 13, 3), (5, 2, 3, 17, 8, 1)],
)
@pytest.mark.parametrize("given_state", [False, True])
def test_equals_independent_torch_lstms_in_values_and_gradients(
    dtype: torch.dtype, groups: int, batch: int, steps: int, inputs: int, hidden: int, layers: int, given_state: bool
) -> None:
    lstms = torch_lstms(groups, inputs, hidden, layers, dtype)
    x = torch.randn(groups, batch, steps, inputs, dtype=dtype, requires_grad=True)
    state = random_state(layers, groups, batch, hidden, dtype) if given_state else None
    leaves = [x, *(p for lstm in lstms for p in lstm.parameters())]
    if state is not None:
        leaves += [tensor.requires_grad_() for tensor in state]

    theirs = [
        lstm(x[g], None if state is None else (state.h[:, g].contiguous(), state.c[:, g].contiguous()))
        for g, lstm in enumerate(lstms)
    ]
    expected = [
        torch.stack([output for output, _ in theirs]),
        torch.stack([h for _, (h, _) in theirs], dim=1),
        torch.stack([c for _, (_, c) in theirs], dim=1),
    ]
    output, (h, c) = batched_lstm(x, layers_of(lstms), state)
    upstream = [torch.randn_like(tensor) for tensor in expected]
    wanted = torch.autograd.grad(expected, leaves, upstream)
    found = torch.autograd.grad([output, h, c], leaves, upstream)

    tolerance = TOLERANCE[dtype]
    for ours, reference in zip([output, h, c], expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance)
    for ours, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance * max(1.0, float(reference.abs().max())))


def test_lengths_equal_a_packed_sequence() -> None:
    lstms = torch_lstms(2, 3, 5, 2, torch.float64)
    x = torch.randn(2, 4, 6, 3, dtype=torch.float64)
    lengths = torch.tensor([6, 1, 4, 2])
    output, (h, c) = batched_lstm(x, layers_of(lstms), lengths=lengths)
    for g, lstm in enumerate(lstms):
        packed = nn.utils.rnn.pack_padded_sequence(x[g], lengths, batch_first=True, enforce_sorted=False)
        theirs, (their_h, their_c) = lstm(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(theirs, batch_first=True, total_length=6)
        torch.testing.assert_close(output[g], padded, rtol=0, atol=1e-12)
        torch.testing.assert_close(h[:, g], their_h, rtol=0, atol=1e-12)
        torch.testing.assert_close(c[:, g], their_c, rtol=0, atol=1e-12)


def test_each_group_may_have_lengths_of_its_own() -> None:
    layers = layers_of(torch_lstms(2, 3, 4, 1, torch.float64))
    x = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([[5, 2], [1, 3]])
    output, (h, _) = batched_lstm(x, layers, lengths=lengths)
    whole, _ = batched_lstm(x, layers)
    for g in range(2):
        for b in range(2):
            length = int(lengths[g, b])
            assert torch.equal(output[g, b, :length], whole[g, b, :length])
            assert torch.all(output[g, b, length:] == 0)
            assert torch.equal(h[0, g, b], whole[g, b, length - 1])


def test_what_lies_behind_the_end_changes_nothing() -> None:
    layers = layers_of(torch_lstms(1, 3, 4, 2, torch.float64))
    x = torch.randn(1, 2, 5, 3, dtype=torch.float64)
    other = x.clone()
    other[:, 1, 2:] = 9.0
    lengths = torch.tensor([5, 2])
    for ours, theirs in zip(
        batched_lstm(x, layers, lengths=lengths)[1], batched_lstm(other, layers, lengths=lengths)[1], strict=True
    ):
        assert torch.equal(ours, theirs)


def test_full_lengths_equal_no_lengths() -> None:
    layers = layers_of(torch_lstms(2, 3, 4, 2, torch.float32))
    x = torch.randn(2, 3, 5, 3)
    assert torch.equal(batched_lstm(x, layers, lengths=torch.full((3,), 5))[0], batched_lstm(x, layers)[0])


def test_groups_do_not_touch_each_other() -> None:
    layers = layers_of(torch_lstms(3, 3, 4, 2, torch.float64))
    x = torch.randn(3, 2, 5, 3, dtype=torch.float64)
    other = x.clone()
    other[1] += 1
    before, after = batched_lstm(x, layers)[0], batched_lstm(other, layers)[0]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_one_step_of_one_layer_is_the_cell() -> None:
    layers = layers_of(torch_lstms(2, 3, 4, 1, torch.float64))
    x = torch.randn(2, 5, 1, 3, dtype=torch.float64)
    state = random_state(1, 2, 5, 4, torch.float64)
    h, c = lstm_cell(x[:, :, 0], state.h[0], state.c[0], layers[0])
    output, final = batched_lstm(x, layers, state)
    torch.testing.assert_close(output[:, :, 0], h, rtol=0, atol=1e-14)
    torch.testing.assert_close(final.c[0], c, rtol=0, atol=1e-14)


def test_a_forget_bias_is_whatever_the_caller_adds_to_the_forget_block() -> None:
    # Pre-activations of zero but for a forget bias: c' = sigmoid(bias) c, since the candidate tanh(0) is 0.
    hidden, forget = 3, 1.0
    bias = torch.zeros(1, 4 * hidden, dtype=torch.float64)
    bias[:, hidden : 2 * hidden] = forget
    layer = LSTMLayer(
        torch.zeros(1, 4 * hidden, 2, dtype=torch.float64),
        torch.zeros(1, 4 * hidden, hidden, dtype=torch.float64),
        bias,
    )
    cell = torch.randn(1, 1, hidden, dtype=torch.float64)
    h, c = lstm_cell(torch.zeros(1, 1, 2, dtype=torch.float64), torch.zeros_like(cell), cell, layer)
    torch.testing.assert_close(c, cell * torch.sigmoid(torch.tensor(forget, dtype=torch.float64)))
    torch.testing.assert_close(h, 0.5 * c.tanh())


def test_no_windows_give_no_outputs() -> None:
    layers = layers_of(torch_lstms(2, 3, 4, 2, torch.float32))
    output, (h, c) = batched_lstm(torch.zeros(2, 0, 5, 3), layers)
    assert output.shape == (2, 0, 5, 4)
    assert h.shape == c.shape == (2, 2, 0, 4)


def test_gradcheck() -> None:
    lstms = torch_lstms(2, 2, 3, 2, torch.float64)
    flat = [tensor.detach().requires_grad_() for layer in layers_of(lstms) for tensor in layer]
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layers = [LSTMLayer(*flat[:3]), LSTMLayer(*flat[3:])]
        output, (h, c) = batched_lstm(x, layers, lengths=torch.tensor([3, 2]))
        return output, h, c

    assert torch.autograd.gradcheck(run, (x, *flat))
