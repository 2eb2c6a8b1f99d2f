"""The training kernels of attention_decoder: every instruction set, any number of threads, no read out of bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from sgela_fast.ops import _decoder_training as training
from sgela_fast.ops.attention_decoder import attention_decoder
from tests.ops.decoder_cases import PAPER, RELEASED, Case, cases, draw
from tests.ops.decoder_gradients import gradients, learns_like_the_reference

extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")

ISAS = extension.build_info()["isas"]
pytestmark = pytest.mark.usefixtures("poisoned_memory")
VARIANTS = pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_every_instruction_set_learns_like_the_float64_reference(isa: str, case: Case) -> None:
    extension.force_isa(isa)
    learns_like_the_reference(case)


@VARIANTS
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("batch", "hidden"), [(1, 16), (40, 100), (300, 8)])
def test_gradients_do_not_depend_on_the_number_of_threads(variant: Case, isa: str, batch: int, hidden: int) -> None:
    extension.force_isa(isa)
    inputs = draw(variant._replace(batch=batch, hidden=hidden, groups=2))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            output, of_inputs = gradients(inputs, attention_decoder, backend="fused")
            found.append([*output, *of_inputs])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_forward_and_backward_may_run_on_different_instruction_sets() -> None:
    arguments = draw(RELEASED).arguments()
    gradient = torch.randn(3, 5, 6, 16)
    found = []
    for isa in ISAS:
        extension.force_isa("baseline")
        results = training.FORWARD.overload(*arguments, True)
        taped = [results[i] for i in (0, 3, 4, 5, 6, 7)]
        extension.force_isa(isa)
        found.append(
            training.BACKWARD.overload(gradient, *[None] * 6, *arguments[:10], taped, *arguments[10:], False)[0]
        )
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changed",
    [
        {0: torch.zeros(3, 5, 6, 15)},
        {0: torch.zeros(3, 5, 16)},
        {0: torch.zeros(3, 5, 0, 16)},
        {1: torch.zeros(2, 3, 4, 16)},
        {2: torch.zeros(2, 3, 5, 16).double()},
        {3: []},
        {4: [torch.zeros(3, 64)]},
        {4: [torch.zeros(3, 64), torch.zeros(3, 60)]},
        {5: torch.zeros(3, 16, 17)},
        {6: None},
        {7: torch.zeros(3, 3, 15)},
        {9: torch.zeros(3, 5, 5, 4)},
        {10: 0},
        {12: 3},
        {13: 0},
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed: dict[int, Any]) -> None:
    arguments = list(draw(RELEASED).arguments())
    for index, value in changed.items():
        arguments[index] = value
    with pytest.raises(RuntimeError, match="attention_decoder"):
        training.FORWARD.overload(*arguments, True)


@pytest.mark.parametrize("wrong", ["number", "tape", "h", "gradient"])
def test_what_another_forward_pass_left_is_refused(wrong: str) -> None:
    arguments = draw(RELEASED).arguments()
    results = training.FORWARD.overload(*arguments, True)
    taped = [results[i] for i in (0, 3, 4, 5, 6, 7)]
    gradient = torch.randn(3, 5, 6, 16)
    if wrong == "number":
        taped = taped[:-1]
    elif wrong == "tape":
        taped[-1] = taped[-1][1:]
    elif wrong == "h":
        taped[3] = taped[3][:, :, :4]
    else:
        gradient = gradient[:, :4]
    with pytest.raises(RuntimeError, match="attention_decoder"):
        training.BACKWARD.overload(gradient, *[None] * 6, *arguments[:10], taped, *arguments[10:], False)
