"""What the module LocalityAttention adds to the op: projections, groups, step-by-step decoding, clear errors."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sgela_fast
from sgela_fast.nn import AttentionOutput, LocalityAttention
from sgela_fast.ops.locality_attention import why_not_fused
from sgela_fast.reference.attention_decoder import DecoderWeights, attention_decoder
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState

WHY_NOT = why_not_fused("cpu", torch.float64)
FUSED = pytest.param("fused", marks=pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)))
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(params=["reference", FUSED])
def backend(request: pytest.FixtureRequest) -> Any:
    """Every claim holds on both backends."""
    return request.param


def double(*shape: int, **options: Any) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, **options)


def build(*sizes: int, **settings: Any) -> LocalityAttention:
    return LocalityAttention(*sizes, **{"sigma": 1.5, "dtype": torch.float64, **settings})


def part(result: AttentionOutput, index: int | slice) -> AttentionOutput:
    """What the first dimension has at ``index``; without the alignment."""
    return AttentionOutput(result.output[index], result.context[index], result.loss[index], None)


def agree(results: AttentionOutput, others: AttentionOutput) -> None:
    for result, other in zip(results, others, strict=True):
        assert (result is None) == (other is None)
        if result is not None:
            torch.testing.assert_close(result, other, **EXACT)


def test_it_is_a_public_name() -> None:
    assert sgela_fast.LocalityAttention is LocalityAttention
    assert "LocalityAttention" in sgela_fast.__all__


def test_it_is_the_formula_written_out(backend: Any) -> None:
    attention = build(5, 7, score="general", output_size=3, bias=True, scale=0.5, backend=backend)
    query, memory = double(2, 4, 5), double(2, 6, 7)
    result = attention(query, memory, return_alignment=True)
    key_weight, fusion_weight, bias = attention.parameters()
    for b in range(2):
        loss = torch.zeros((), dtype=torch.float64)
        for t in range(4):
            scores = torch.stack([0.5 * query[b, t] @ key_weight @ memory[b, j] for j in range(6)])
            weights = scores.exp() / scores.exp().sum()  # Eq. 4
            mask = torch.tensor([math.exp(-((j - (5 - t)) ** 2) / (2 * 1.5**2)) for j in range(6)], dtype=torch.float64)
            loss = loss + (weights - mask * weights).square().sum()  # Eq. 5 to 7
            context = weights @ memory[b]  # Eq. 8
            output = torch.tanh(fusion_weight @ torch.cat([query[b, t], context]) + bias)  # Eq. 9
            torch.testing.assert_close(result.alignment[b, t], weights, **EXACT)
            torch.testing.assert_close(result.context[b, t], context, **EXACT)
            torch.testing.assert_close(result.output[b, t], output, **EXACT)
        torch.testing.assert_close(result.loss[b], loss, **EXACT)


@pytest.mark.parametrize("mode", ["las", "mbas", "bas"])
@pytest.mark.parametrize("score", ["dot", "general"])
@pytest.mark.parametrize("fusion", ["tanh", "linear"])
def test_it_is_the_attention_of_the_gait_decoder(mode: Any, score: Any, fusion: Any, backend: Any) -> None:
    groups, batch, steps, hidden, joints = 3, 2, 5, 4, 6
    attention = build(hidden, score=score, fusion=fusion, mode=mode, groups=groups, window=2, backend=backend)
    layer = LSTMLayer(
        double(groups, 4 * hidden, joints + hidden), double(groups, 4 * hidden, hidden), double(groups, 4 * hidden)
    )
    output = double(groups, joints, hidden)
    weights = DecoderWeights([layer], attention.key_weight, attention.fusion_weight, output, None)
    encoded, state = double(groups, batch, steps, hidden), LSTMState(*double(2, 1, groups, batch, hidden))
    decoded = attention_decoder(
        encoded, state, weights, steps=steps, mode=mode, fusion=fusion, sigma=1.5, window=2, feedback=True
    )
    assert decoded.context is not None
    ours = attention(decoded.h[-1], encoded, return_alignment=True)
    agree(ours, AttentionOutput(decoded.attentional, decoded.context, decoded.loss, decoded.alignment))


def test_general_with_the_identity_is_dot(backend: Any) -> None:
    general, dot = build(5, score="general", backend=backend), build(5, backend=backend)
    with torch.no_grad():
        general.key_weight.copy_(torch.eye(5))  # type: ignore[union-attr]
        general.fusion_weight.copy_(dot.fusion_weight)  # type: ignore[union-attr, arg-type]
    query, memory = double(2, 4, 5), double(2, 6, 5)
    agree(general(query, memory), dot(query, memory))


def test_linear_fusion_is_one_product_with_query_and_context() -> None:
    attention = build(5, 7, score="general", fusion="linear", output_size=4)
    query, memory = double(2, 3, 5), double(2, 6, 7)
    result = attention(query, memory)
    for_query, for_context = attention.fusion_weight.split([5, 7], dim=1)  # type: ignore[union-attr]
    torch.testing.assert_close(result.output, query @ for_query.mT + result.context @ for_context.mT, **EXACT)


def test_without_fusion_the_output_is_the_context(backend: Any) -> None:
    attention = build(5, fusion=None, backend=backend)
    result = attention(double(2, 3, 5), double(2, 6, 5))
    assert result.output is result.context
    assert not list(attention.parameters())


@pytest.mark.parametrize("score", ["dot", "general"])
def test_rows_one_by_one_are_all_rows_at_once(score: Any, backend: Any) -> None:
    attention = build(5, score=score, backend=backend)
    query, memory, padding = double(2, 4, 5), double(2, 6, 5), torch.arange(6) >= torch.tensor([[6], [4]])
    at_once = attention(query, memory, key_padding_mask=padding, return_alignment=True)
    keys = attention.project_keys(memory)
    rows = [
        attention(query[:, t : t + 1], memory, keys=keys, key_padding_mask=padding, first_step=t, return_alignment=True)
        for t in range(4)
    ]
    output, context, alignment = (
        torch.cat([getattr(row, name) for row in rows], dim=1) for name in ("output", "context", "alignment")
    )
    agree(AttentionOutput(output, context, sum(row.loss for row in rows), alignment), at_once)


def test_dot_keys_are_the_memory() -> None:
    memory = double(2, 6, 5)
    assert build(5).project_keys(memory) is memory


def test_values_are_the_raw_memory_or_what_is_given(backend: Any) -> None:
    attention = build(5, 7, score="general", value_size=2, fusion=None, backend=backend)
    query, memory, value = double(2, 4, 5), double(2, 6, 7), double(2, 6, 2)
    result = attention(query, memory, value=value, return_alignment=True)
    torch.testing.assert_close(result.context, result.alignment @ value, **EXACT)
    raw = build(5, 7, score="general", fusion=None, backend=backend)
    raw.load_state_dict(attention.state_dict())
    torch.testing.assert_close(raw(query, memory).context, result.alignment @ memory, **EXACT)


@pytest.mark.parametrize("score", ["dot", "general"])
def test_groups_are_separate_modules(score: Any, backend: Any) -> None:
    settings: dict[str, Any] = {"score": score, "bias": True, "output_size": 3, "backend": backend}
    together = build(5, groups=3, **settings)
    query, memory = double(3, 2, 4, 5, requires_grad=True), double(3, 2, 6, 5, requires_grad=True)
    result = together(query, memory)
    (result.output.sum() + result.loss.sum()).backward()
    for g in range(3):
        alone = build(5, **settings)
        alone.load_state_dict({name: weight[g] for name, weight in together.state_dict().items()})
        own_query, own_memory = (tensor[g].detach().requires_grad_() for tensor in (query, memory))
        own = alone(own_query, own_memory)
        agree(own, part(result, g))
        (own.output.sum() + own.loss.sum()).backward()
        torch.testing.assert_close(own_query.grad, query.grad[g], **EXACT)  # type: ignore[index]
        torch.testing.assert_close(own_memory.grad, memory.grad[g], **EXACT)  # type: ignore[index]
        for name, weight in alone.named_parameters():
            torch.testing.assert_close(weight.grad, together.get_parameter(name).grad[g], **EXACT)  # type: ignore[index]


def test_a_query_may_be_shared_by_memories(backend: Any) -> None:
    attention = build(5, score="general", backend=backend)
    query, memory = double(1, 4, 5), double(3, 6, 5)
    agree(attention(query, memory), attention(query.expand(3, 4, 5), memory))


def test_a_call_can_give_positions_of_its_own(backend: Any) -> None:
    attention = build(5, centers="reverse", backend=backend)
    query, memory = double(2, 4, 5), double(2, 6, 5)
    positions = torch.arange(5.0, 1.0, -1, dtype=torch.float64).expand(2, 4)
    agree(attention(query, memory, centers=positions), attention(query, memory))
    identity = build(5, centers="identity", backend=backend)
    identity.load_state_dict(attention.state_dict())
    agree(attention(query, memory, centers="identity"), identity(query, memory))


def test_padding_changes_nothing_if_the_positions_count_from_each_end(backend: Any) -> None:
    attention = build(5, score="general", backend=backend)
    query, memory, lengths = double(3, 4, 5), double(3, 9, 5), torch.tensor([9, 4, 6])
    padding = torch.arange(9) >= lengths[:, None]
    centers = lengths[:, None] - 1 - torch.arange(4)
    padded = attention(query, memory, key_padding_mask=padding, centers=centers)
    for b, length in enumerate(lengths.tolist()):
        alone = attention(query[b : b + 1], memory[b : b + 1, :length])
        agree(alone, part(padded, slice(b, b + 1)))


def test_rows_of_zeros_teach_nothing(backend: Any) -> None:
    attention = build(5, score="general", fusion=None, backend=backend)
    query, memory = double(2, 4, 5, requires_grad=True), double(2, 6, 5, requires_grad=True)
    ended = torch.arange(4) >= torch.tensor([[4], [2]])
    everything = [query, memory, *attention.parameters()]
    loss = attention(query.masked_fill(ended[..., None], 0), memory).loss
    masked = torch.autograd.grad(loss.sum(), everything)
    alive = [attention(query[:1], memory[:1]), attention(query[1:, :2], memory[1:])]
    for ours, other in zip(masked, torch.autograd.grad(sum(row.loss.sum() for row in alive), everything), strict=True):
        torch.testing.assert_close(ours, other, **EXACT)


def test_the_loss_pulls_the_alignment_to_the_expected_positions(backend: Any) -> None:
    attention = build(8, score="general", fusion=None, centers="identity", backend=backend)
    query, memory = double(1, 6, 8), double(1, 6, 8)
    optimiser = torch.optim.Adam(attention.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        attention(query, memory).loss.sum().backward()
        optimiser.step()
    alignment = attention(query, memory, return_alignment=True).alignment
    assert (alignment.argmax(dim=-1) - torch.arange(6)).abs().max() <= 1


@pytest.mark.parametrize("mode", ["las", "mbas", "bas"])
@pytest.mark.parametrize("groups", [None, 2])
def test_gradients_are_those_of_finite_differences(mode: Any, groups: int | None, backend: Any) -> None:
    attention = build(3, 4, score="general", mode=mode, groups=groups, bias=True, backend=backend)
    names = [name for name, _ in attention.named_parameters()]
    leading = () if groups is None else (groups,)

    def call(query: Tensor, memory: Tensor, centers: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        arguments = ((query, memory), {"centers": centers})
        return torch.func.functional_call(attention, dict(zip(names, weights, strict=True)), *arguments)[:3]

    inputs = (double(*leading, 2, 2, 3), double(*leading, 2, 4, 4), 3 * torch.rand(*leading, 2, 2).double())
    weights = [weight.detach() for weight in attention.parameters()]
    assert torch.autograd.gradcheck(call, tuple(tensor.requires_grad_() for tensor in (*inputs, *weights)))


@pytest.mark.parametrize("groups", [None, 2])
def test_it_compiles_as_one_graph(groups: int | None) -> None:
    attention = LocalityAttention(8, 6, sigma=2.0, score="general", groups=groups)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 5):
        shape = (batch,) if groups is None else (groups, batch)
        query, memory = torch.randn(*shape, 4, 8), torch.randn(*shape, 7, 6)
        ours, eager = compiled(query, memory), attention(query, memory)
        for weight_of in (ours, eager):
            (weight_of.output.sum() + weight_of.loss.sum()).backward()
        for result, other in zip(ours[:3], eager[:3], strict=True):
            torch.testing.assert_close(result, other)


def test_a_decoding_loop_compiles_as_one_graph() -> None:
    attention = LocalityAttention(8, sigma=2.0, score="general")

    def decode(state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        keys, loss = attention.project_keys(memory), memory.new_zeros(memory.shape[0])
        for step in range(3):
            row = attention(state[:, None], memory, keys=keys, first_step=step)
            state, loss = row.output[:, 0], loss + row.loss
        return state, loss

    inputs = torch.randn(2, 8), torch.randn(2, 5, 8)
    compiled = torch.compile(decode, fullgraph=True, backend="aot_eager")(*inputs)
    for result, other in zip(compiled, decode(*inputs), strict=True):
        torch.testing.assert_close(result, other)


def test_it_can_be_exported_with_a_dynamic_batch() -> None:
    attention = LocalityAttention(8, sigma=2.0, score="general")
    inputs = torch.randn(2, 4, 8), torch.randn(2, 7, 8)
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(attention, inputs, dynamic_shapes={"query": batch, "memory": batch})
    others = torch.randn(3, 4, 8), torch.randn(3, 7, 8)
    for result, other in zip(program.module()(*others)[:3], attention(*others)[:3], strict=True):
        torch.testing.assert_close(result, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_and_autocast_keep_the_loss_in_float32(dtype: torch.dtype, backend: Any) -> None:
    attention = LocalityAttention(8, sigma=2.0, score="general", backend=backend)
    query, memory = torch.randn(2, 4, 8), torch.randn(2, 7, 8)
    exact = attention(query, memory)
    with torch.autocast("cpu", dtype=dtype):
        cast = attention(query, memory)
    converted = copy.deepcopy(attention).to(dtype)(query.to(dtype), memory.to(dtype))
    for result in (cast, converted):
        assert (result.output.dtype, result.context.dtype, result.loss.dtype) == (dtype, dtype, torch.float32)
        for half, full in zip(result[:3], exact[:3], strict=True):
            torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


def test_weights_survive_a_file_and_a_copy() -> None:
    attention = LocalityAttention(8, 6, sigma=2.0, score="general", bias=True, groups=2)
    file = io.BytesIO()
    torch.save(attention.state_dict(), file)
    file.seek(0)
    other = LocalityAttention(8, 6, sigma=2.0, score="general", bias=True, groups=2)
    other.load_state_dict(torch.load(file, weights_only=True))
    query, memory = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 7, 6)
    duplicate = copy.deepcopy(attention)
    for same in (other, duplicate):
        assert torch.equal(same(query, memory).output, attention(query, memory).output)
    with torch.no_grad():
        duplicate.key_weight.zero_()  # type: ignore[union-attr]
    assert attention.state_dict()["key_weight"].any()


def test_fresh_weights_are_those_of_linear_layers() -> None:
    attention = LocalityAttention(64, 36, sigma=2.0, score="general", bias=True)
    for weight, inputs in zip(attention.parameters(), (36, 100, 100), strict=True):
        bound = inputs**-0.5
        assert 0.9 * bound < float(weight.detach().abs().max()) <= bound
        linear = nn.Linear(inputs, 4000).weight.detach()
        assert abs(float(weight.detach().std() / linear.std()) - 1) < 0.25
    before = [weight.detach().clone() for weight in attention.parameters()]
    attention.reset_parameters()
    assert not any(torch.equal(weight, old) for weight, old in zip(attention.parameters(), before, strict=True))


def test_it_can_be_made_without_memory() -> None:
    attention = LocalityAttention(8, sigma=2.0, score="general", device="meta")
    result = attention(torch.zeros(2, 4, 8, device="meta"), torch.zeros(2, 7, 8, device="meta"))
    assert result.output.shape == (2, 4, 8)


def test_it_says_what_it_is() -> None:
    assert repr(LocalityAttention(8, sigma=2.0)) == "LocalityAttention(8, 8, sigma=2.0)"
    many = LocalityAttention(8, 6, sigma=2.0, mode="mbas", score="general", output_size=3, bias=True, groups=2)
    assert many.extra_repr() == "8, 6, sigma=2.0, mode='mbas', score='general', output_size=3, bias=True, groups=2"
    assert LocalityAttention(8, sigma=nn.Parameter(torch.tensor(2.0)), scale=0.5).extra_repr() == (
        "8, 8, sigma=learned, scale=0.5"
    )


def test_a_width_that_is_a_parameter_is_learned() -> None:
    attention = LocalityAttention(8, sigma=nn.Parameter(torch.tensor(1.0)), fusion=None)
    attention(torch.randn(2, 4, 8), torch.randn(2, 7, 8)).loss.sum().backward()
    (sigma,) = attention.parameters()
    assert sigma.grad is not None
    assert sigma.grad < 0  # a wider mask costs less


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma is 0.0; it must be positive"),
        ({"window": -1.0}, "window is -1.0; it must be 0 or more, or None"),
        ({"mode": "soft"}, "mode is 'soft'; choose las, mbas or bas"),
        ({"centers": "middle"}, "centers is 'middle'; give reverse, identity or a tensor of positions"),
        ({"backend": "fast"}, "backend is 'fast'; choose auto, reference or fused"),
        ({"score": "concat"}, "score is 'concat'; choose dot or general"),
        ({"fusion": "relu"}, "fusion is 'relu'; choose tanh, linear or None"),
        ({"fusion": None, "bias": True}, "output_size and bias belong to the attentional layer; choose fusion"),
        ({"key_size": 6}, "score dot needs queries and keys of one size, not 8 and 6; choose general"),
        ({"output_size": 0}, "output_size is 0; it must be 1 or more"),
        ({"groups": 0}, "groups is 0; it must be 1 or more, or None"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_sentence(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalityAttention(8, **{"sigma": 1.0, **settings})


@pytest.mark.parametrize(
    ("settings", "shapes", "message"),
    [
        ({}, ((2, 4, 7), (2, 5, 6)), "query has 7 features, and this attention was made for 8"),
        ({}, ((2, 4, 8), (2, 5, 7)), "memory has 7 features, and this attention was made for 6"),
        ({}, ((8,), (2, 5, 6)), r"query has shape \(8,\); it needs \(\.\.\., rows, 8\)"),
        ({}, ((2, 8), (2, 5, 6)), r"need the same number of dimensions; a single decoding step is .* \(\.\.\., 1, 8\)"),
        ({}, ((3, 4, 8), (2, 5, 6)), r"key has leading dimensions \(2,\), which do not broadcast with \(3,\)"),
        ({"value_size": 3}, ((2, 4, 8), (2, 5, 6)), "a memory of 6 features cannot stand in for 3"),
        ({"groups": 3}, ((2, 4, 8), (3, 5, 6)), "query has 2 groups in its first dimension, and this attention 3"),
        ({"groups": 3}, ((4, 8), (3, 2, 5, 6)), r"query has shape \(4, 8\); it needs \(3 groups, \.\.\., rows, 8\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_one_sentence(settings: Any, shapes: Any, message: str) -> None:
    attention = LocalityAttention(8, 6, sigma=1.0, score="general", **settings)
    with pytest.raises(ValueError, match=message):
        attention(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("score", ["dot", "general"])
def test_another_dtype_or_device_than_the_weights_is_refused_in_one_sentence(score: Any) -> None:
    attention, rows = LocalityAttention(8, sigma=1.0, score=score), torch.zeros(2, 4, 8)
    with pytest.raises(ValueError, match=r"query is torch.float64 and this attention's weights torch.float32; convert"):
        attention(rows.double(), rows.double())
    with pytest.raises(ValueError, match="memory is on meta and this attention on cpu; move one of them"):
        attention(rows, rows.to("meta"))


def test_keys_and_values_of_another_size_are_refused() -> None:
    attention = LocalityAttention(8, 6, sigma=1.0, score="general")
    query, memory = torch.zeros(2, 4, 8), torch.zeros(2, 5, 6)
    with pytest.raises(ValueError, match="keys has 6 features, and this attention was made for 8"):
        attention(query, memory, keys=memory)
    with pytest.raises(ValueError, match="value has 8 features, and this attention was made for 6"):
        attention(query, memory, value=torch.zeros(2, 5, 8))
