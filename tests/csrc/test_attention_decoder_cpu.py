"""The CPU kernels of attention_decoder: every instruction set, any number of threads, nothing read out of bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from sgela_fast.reference.attention_decoder import DecoderOutput
from tests.ops.decoder_cases import PAPER, RELEASED, Case, Inputs, agrees_with_the_reference, cases, draw

extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")

ISAS = extension.build_info()["isas"]
pytestmark = pytest.mark.usefixtures("poisoned_memory")
VARIANTS = pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])


def decode(inputs: Inputs, packed: Tensor | None = None, **changed: Any) -> DecoderOutput:
    """The compiled loop, with arguments that no public function has checked."""
    overload = torch.ops.sgela_fast.attention_decoder_cpu.default
    names = [argument.name for argument in overload._schema.arguments]
    given = inputs.arguments(True)
    arguments = dict(zip(names, (*given[:10], packed, *given[10:]), strict=True))
    context, loss, alignment, reconstruction, *rest = overload(**(arguments | changed))
    return DecoderOutput(reconstruction, context, alignment, loss, *rest)


def pack(inputs: Inputs, feedback: bool) -> Tensor:
    layers = [tensor for layer in inputs.weights.layers for tensor in layer[:2]]
    return torch.ops.sgela_fast.attention_decoder_pack.default(layers, *inputs.weights[1:], feedback)


def equal(one: DecoderOutput, other: DecoderOutput) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_every_instruction_set_equals_the_float64_reference(isa: str, case: Case) -> None:
    extension.force_isa(isa)
    agrees_with_the_reference(case)


@VARIANTS
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 2, 40, 100])
def test_results_do_not_depend_on_the_number_of_threads(variant: Case, isa: str, batch: int) -> None:
    extension.force_isa(isa)
    inputs = draw(variant._replace(batch=batch, groups=2))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(decode(inputs))
    finally:
        torch.set_num_threads(before)
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


@VARIANTS
def test_packed_weights_change_nothing(variant: Case) -> None:
    inputs = draw(variant)
    assert equal(decode(inputs, pack(inputs, inputs.options["feedback"])), decode(inputs))


@pytest.mark.parametrize("wrong", ["other fold", "other shape", "noise", "other dtype", "other instruction set"])
def test_what_was_packed_for_something_else_is_not_read(wrong: str) -> None:
    inputs = draw(PAPER)
    packed = {
        "other fold": lambda: pack(inputs, False),
        "other shape": lambda: pack(draw(PAPER._replace(joints=5)), True),
        "noise": lambda: torch.randn_like(pack(inputs, True)),
        "other dtype": lambda: pack(inputs, True).double(),
        "other instruction set": lambda: extension.force_isa("baseline") or pack(inputs, True),
    }[wrong]()
    extension.force_isa("")
    assert equal(decode(inputs, packed), decode(inputs))


def test_the_fold_is_rounded_once() -> None:
    """The folded weights are those of float64, rounded: they are found among the packed ones."""
    inputs = draw(PAPER._replace(groups=1, hidden=8, joints=25))
    weight, output = inputs.weights.layers[0].weight_ih[0].double(), inputs.weights.output[0].double()
    folded = (weight[:, 25:] + weight[:, :25] @ output).float()
    packed = pack(inputs, True)
    assert torch.isin(folded, packed).all()
    assert not torch.isin(folded, pack(inputs, False)).any()


@pytest.mark.parametrize(
    "changed",
    [
        {"encoded": torch.zeros(3, 5, 6, 15)},
        {"encoded": torch.zeros(3, 5, 16)},
        {"encoded": torch.zeros(3, 5, 0, 16)},
        {"encoded": torch.zeros(3, 5, 6, 16).double()},
        {"h0": torch.zeros(2, 3, 4, 16)},
        {"c0": torch.zeros(1, 3, 5, 16)},
        {"layers": []},
        {"layers": [torch.zeros(3, 64, 20)]},
        {"layers": [torch.zeros(3, 64, 20), torch.zeros(3, 64, 16), torch.zeros(3, 64, 16), torch.zeros(3, 60, 16)]},
        {"biases": [torch.zeros(3, 64)]},
        {"biases": [torch.zeros(3, 64), torch.zeros(2, 64)]},
        {"key": torch.zeros(3, 16, 17)},
        {"fusion": torch.zeros(3, 16, 16)},
        {"fusion": None},
        {"output": torch.zeros(3, 3, 16)},
        {"output": torch.zeros(3, 4, 16).bfloat16()},
        {"output_bias": torch.zeros(3, 3)},
        {"teacher": torch.zeros(3, 5, 5, 4)},
        {"steps": 0},
        {"mode": 3},
        {"direction": 0},
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="attention_decoder"):
        decode(draw(RELEASED), **changed)


def test_the_sample_sees_the_first_the_last_and_each_tensor() -> None:
    sample = torch.ops.sgela_fast.attention_decoder_sample.default
    tensors = [torch.randn(3, 5000), torch.randn(2), torch.randn(0), torch.randn(1, dtype=torch.float64)]
    before = sample(tensors)
    assert sample([tensor.clone() for tensor in tensors]) == before
    assert sample(tensors[:-1]) != before
    for tensor in (tensors[0], tensors[1], tensors[3]):
        for index in (0, -1):
            changed = tensor.clone()
            changed.view(-1)[index] += 1.25
            assert sample([changed if other is tensor else other for other in tensors]) != before
