"""BatchedLSTM, the module: G torch.nn.LSTM in one, in values, gradients, weights and manners."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sgela_fast.nn import BatchedLSTM
from sgela_fast.ops import batched_lstm as op

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-11}


@pytest.fixture(params=["fused", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    missing = op.why_not_fused("cpu", torch.float64)
    if request.param == "fused" and missing is not None:
        pytest.skip(missing)
    return str(request.param)


def lstms(groups: int = 3, inputs: int = 4, hidden: int = 6, layers: int = 2, **options: Any) -> list[nn.LSTM]:
    shape = (inputs, hidden, layers)
    return [nn.LSTM(*shape, batch_first=True, dtype=torch.float64, **options) for _ in range(groups)]


def draw(groups: int = 3, batch: int = 5, steps: int = 7, inputs: int = 4) -> Tensor:
    return torch.randn(groups, batch, steps, inputs, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("given_state", [True, False])
def test_equals_the_lstms_it_was_made_from(backend: Any, bias: bool, given_state: bool) -> None:
    singles = lstms(bias=bias)
    together = BatchedLSTM.from_lstms(singles, backend=backend)
    x = draw()
    state = tuple(torch.randn(2, 3, 5, 6, dtype=torch.float64) for _ in range(2)) if given_state else None
    output, (h, c) = together(x, state)
    (output.square().sum() + h.sum() + (2 * c).sum()).backward()
    for g, single in enumerate(singles):
        own = x[g].detach().requires_grad_()
        given = None if state is None else tuple(tensor[:, g].contiguous() for tensor in state)
        one, (one_h, one_c) = single(own, given)
        (one.square().sum() + one_h.sum() + (2 * one_c).sum()).backward()
        for ours, theirs in ((output[g], one), (h[:, g], one_h), (c[:, g], one_c), (x.grad[g], own.grad)):  # type: ignore[index]
            torch.testing.assert_close(ours, theirs, **EXACT)
        for name, weight in single.named_parameters():
            torch.testing.assert_close(together.get_parameter(name).grad[g], weight.grad, **EXACT)  # type: ignore[index]


def test_lengths_stand_for_packed_sequences(backend: Any) -> None:
    singles = lstms()
    together = BatchedLSTM.from_lstms(singles, backend=backend)
    x, lengths = draw(), torch.tensor([7, 1, 4, 2, 7])
    output, (h, _) = together(x, lengths=lengths)
    for g, single in enumerate(singles):
        packed = nn.utils.rnn.pack_padded_sequence(x[g], lengths, batch_first=True, enforce_sorted=False)
        theirs, (their_h, _) = single(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(theirs, batch_first=True)
        torch.testing.assert_close(output[g], padded, **EXACT)
        torch.testing.assert_close(h[:, g], their_h, **EXACT)


def test_parameters_are_those_of_torch_with_a_group_dimension() -> None:
    together, single = BatchedLSTM(3, 4, 6, 2), nn.LSTM(4, 6, 2)
    assert [name for name, _ in together.named_parameters()] == [name for name, _ in single.named_parameters()]
    for name, weight in single.named_parameters():
        assert together.get_parameter(name).shape == (3, *weight.shape)
    assert not any("bias" in name for name, _ in BatchedLSTM(3, 4, 6, bias=False).named_parameters())


def test_a_round_trip_through_torch_changes_nothing() -> None:
    together = BatchedLSTM(3, 4, 6, 2, dropout=0.25, dtype=torch.float64).eval()
    singles = together.to_lstms()
    assert all(single.batch_first and single.dropout == 0.25 and not single.training for single in singles)
    again = BatchedLSTM.from_lstms(singles)
    assert repr(again) == repr(together)
    assert not again.training
    for (name, weight), (other_name, other) in zip(together.named_parameters(), again.named_parameters(), strict=True):
        assert name == other_name
        assert torch.equal(weight, other)
        assert weight.data_ptr() != other.data_ptr()
    assert BatchedLSTM(1, 2, 3, dropout=0.5).to_lstms()[0].dropout == 0  # torch would warn


def test_weights_may_be_parametrised() -> None:
    together, x = BatchedLSTM(3, 4, 6, 2, dtype=torch.float64), draw()
    plain = together(x).output
    torch.nn.utils.parametrizations.weight_norm(together, "weight_ih_l0")
    torch.testing.assert_close(together(x).output, plain, **EXACT)
    singles = together.to_lstms()
    torch.testing.assert_close(singles[1](x[1])[0], plain[1], **EXACT)
    torch.nn.utils.parametrizations.weight_norm(singles[1], "weight_ih_l0")
    torch.testing.assert_close(BatchedLSTM.from_lstms(singles)(x).output, plain, **EXACT)


def test_stacked_state_dicts_of_torch_can_be_loaded() -> None:
    singles = lstms()
    states = [single.state_dict() for single in singles]
    together = BatchedLSTM(3, 4, 6, 2, dtype=torch.float64)
    together.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
    x = draw()
    for g, single in enumerate(singles):
        torch.testing.assert_close(together(x).output[g], single(x[g])[0], **EXACT)


def test_fresh_weights_are_those_of_torch() -> None:
    together, single = BatchedLSTM(2, 30, 64, 2), nn.LSTM(30, 64, 2)
    for name, weight in together.named_parameters():
        theirs = single.get_parameter(name).detach()
        bound = 64**-0.5
        assert 0.9 * bound < float(weight.detach().abs().max()) <= bound
        assert abs(float(weight.detach().std() / theirs.std()) - 1) < 0.2
        assert not torch.equal(weight[0], weight[1])


def test_dropout_acts_in_training_alone_and_is_reproducible(backend: Any) -> None:
    together = BatchedLSTM(2, 4, 16, 3, dropout=0.5, backend=backend)
    x = torch.randn(2, 3, 5, 4)
    torch.manual_seed(1)
    first = together(x).output
    torch.manual_seed(1)
    assert torch.equal(together(x).output, first)
    assert not torch.equal(together(x).output, first)
    together.eval()
    assert torch.equal(together(x).output, together(x).output)
    plain = BatchedLSTM(2, 4, 16, 3, backend=backend)
    plain.load_state_dict(together.state_dict())
    assert torch.equal(together(x).output, plain(x).output)


def test_one_sequence_can_be_shared_by_all_groups(backend: Any) -> None:
    together = BatchedLSTM(3, 4, 6, backend=backend)
    shared = torch.randn(5, 7, 4)
    torch.testing.assert_close(together(shared.expand(3, 5, 7, 4)), together(shared.repeat(3, 1, 1, 1)))


def test_it_learns_to_remember(backend: Any) -> None:
    torch.manual_seed(2)
    together = BatchedLSTM(2, 1, 8, backend=backend)
    optimiser = torch.optim.Adam(together.parameters(), lr=0.03)
    x = torch.randint(0, 2, (2, 64, 5, 1)).float()
    for _ in range(80):
        optimiser.zero_grad()
        loss = (together(x).output[:, :, -1, 0] - (x[:, :, 0, 0] - 0.5)).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.02


def test_it_compiles_as_one_graph_for_any_batch() -> None:
    together = BatchedLSTM(2, 3, 8, 2)
    torch._dynamo.reset()
    compiled = torch.compile(together, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (5, 9):
        x, lengths = torch.randn(2, batch, 4, 3), torch.randint(1, 5, (batch,))
        ours, eager = compiled(x, lengths=lengths), together(x, lengths=lengths)
        torch.testing.assert_close(ours.output, eager.output)
        weights = list(together.parameters())
        for one, other in zip(
            torch.autograd.grad(ours.output.sum(), weights, allow_unused=True, materialize_grads=True),
            torch.autograd.grad(eager.output.sum(), weights, allow_unused=True, materialize_grads=True),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


def test_it_can_be_exported_with_a_dynamic_batch() -> None:
    together = BatchedLSTM(2, 3, 8, 2)
    dims = {"input": {1: torch.export.Dim("batch")}}
    program = torch.export.export(together, (torch.randn(2, 5, 4, 3),), dynamic_shapes=dims)
    other = torch.randn(2, 9, 4, 3)
    torch.testing.assert_close(program.module()(other)[0], together(other).output)


def test_weights_survive_a_file_a_copy_and_a_pickle(backend: Any) -> None:
    together = BatchedLSTM(2, 3, 8, backend=backend)
    x = torch.randn(2, 5, 4, 3)
    with torch.no_grad():
        expected = together(x).output  # packed weights are kept from here on, and not copied
    file = io.BytesIO()
    torch.save(together.state_dict(), file)
    file.seek(0)
    loaded = BatchedLSTM(2, 3, 8, backend=backend)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (loaded, copy.deepcopy(together), pickle.loads(pickle.dumps(together))):
        assert torch.equal(other(x).output, expected)
        with torch.no_grad():
            other.weight_hh_l0.zero_()
            assert not torch.equal(other(x).output, expected)
            assert torch.equal(together(x).output, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_and_autocast(dtype: torch.dtype, backend: Any) -> None:
    together = BatchedLSTM(2, 3, 8, 2, backend=backend)
    x = torch.randn(2, 5, 4, 3)
    exact = together(x).output
    with torch.autocast("cpu", dtype=dtype):
        cast = together(x).output
    converted = copy.deepcopy(together).to(dtype)(x.to(dtype)).output
    for result in (cast, converted):
        assert result.dtype == dtype
        torch.testing.assert_close(result.float(), exact, rtol=0.03, atol=0.03)


def test_it_can_be_made_without_memory() -> None:
    together = BatchedLSTM(2, 3, 8, 2, device="meta")
    assert together(torch.zeros(2, 5, 4, 3, device="meta")).output.shape == (2, 5, 4, 8)


def test_it_says_what_it_is() -> None:
    assert repr(BatchedLSTM(2, 3, 8)) == "BatchedLSTM(2, 3, 8)"
    many = BatchedLSTM(2, 3, 8, 2, 0.5, False, backend="reference")
    assert many.extra_repr() == "2, 3, 8, num_layers=2, dropout=0.5, bias=False, backend='reference'"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": 0}, "groups is 0; it must be 1 or more"),
        ({"num_layers": 0}, "num_layers is 0; it must be 1 or more"),
        ({"dropout": -0.1}, "dropout is -0.1; it is a probability"),
        ({"backend": "fast"}, "backend is 'fast'; choose auto, reference or fused"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchedLSTM(**{"groups": 2, "input_size": 3, "hidden_size": 8, **settings})


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "lstms is empty; there must be one LSTM or more"),
        ([nn.LSTM(4, 6, bidirectional=True)], r"lstms\[0\] is bidirectional; run each direction as an LSTM of its own"),
        ([nn.LSTM(4, 6), nn.LSTM(4, 6, proj_size=2)], r"lstms\[1\] has proj_size=2; there is no projection here"),
        ([nn.LSTM(4, 6), nn.LSTM(4, 7)], r"lstms\[1\] has hidden_size=7 and lstms\[0\] 6; they must be equal"),
        ([nn.LSTM(4, 6), nn.LSTM(4, 6).eval()], r"lstms\[1\] has training=False and lstms\[0\] True"),
        ([nn.LSTM(4, 6), nn.LSTM(4, 6).double()], r"lstms\[1\] is torch.float64 on cpu and lstms\[0\] torch.float32"),
    ],
)
def test_lstms_that_cannot_run_together_are_refused(others: list[nn.LSTM], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchedLSTM.from_lstms(others)


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input has shape \(2, 5, 4, 4\); by the weights it needs"):
        BatchedLSTM(2, 3, 8)(torch.zeros(2, 5, 4, 4))
