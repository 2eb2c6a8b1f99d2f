"""The Triton kernels of `attention_decoder` against the float64 reference: interpreted, and on a GPU where one is.

Cases are small, because the interpreter runs programs one after another; it says nothing about races or about the
precision of matrix units, which is why the same tests run on a device where there is one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.reference.attention_decoder import DecoderOutput
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from tests.ops.decoder_cases import PAPER, RELEASED, Case, Inputs, assert_agree, bound, draw

pytest.importorskip("triton")

from sgela_fast.kernels import attention_decoder as kernels
from sgela_fast.kernels import attention_decoder_launch as launches
from sgela_fast.kernels.attention_decoder_tuning import (
    WIDTHS,
    AttentionTiles,
)
from sgela_fast.kernels.batched_lstm_tuning import Tiles
from sgela_fast.kernels.launch import Launch

TINY: dict[str, Any] = {"groups": 2, "batch": 2, "steps": 2, "keys": 3}
ONE_GROUP = TINY | {"groups": 1}
# Half types round states, contexts and attentional vectors at every step.
HALF_TOLERANCE = {torch.float16: 8e-3, torch.bfloat16: 6e-2}

poisoned = pytest.mark.usefixtures("poisoned_outputs")
VARIANTS = pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])


def given(case: Case, device: torch.device) -> Inputs:
    """Inputs of a case on a device, with the strides that the case says."""
    return draw(case).each(lambda tensor: tensor.to(device))


def run(inputs: Inputs, **options: Any) -> DecoderOutput:
    """Everything that the kernels give."""
    context, loss, alignment, reconstruction, attentional, h, c = kernels.forward(*inputs.arguments(True), **options)
    attends = inputs.options["mode"] is not None
    return DecoderOutput(
        reconstruction, context if attends else None, alignment if attends else None, loss, attentional, h, c
    )


def agrees_with_the_reference(case: Case, device: torch.device, tolerance: float | None = None, **options: Any) -> None:
    inputs = given(case, device)
    exact = inputs.each(Tensor.double).decode(reference)
    assert_agree(run(inputs, **options), exact, tolerance or bound(case))


def equal(ours: DecoderOutput, other: DecoderOutput) -> bool:
    pairs = [(one, two) for one, two in zip(ours, other, strict=True) if one is not None and two is not None]
    return all(torch.equal(one, two) for one, two in pairs)


@poisoned
@pytest.mark.parametrize(
    "case",
    [
        PAPER._replace(**TINY, bias=True),
        RELEASED._replace(groups=1, batch=2, steps=2, keys=3, hidden=33, layers=3),
        PAPER._replace(**TINY, fed="teacher", layout="sliced"),
        RELEASED._replace(**TINY, fed="teacher", layout="steps first", joints=5, mode="mbas", window=1.0),
        PAPER._replace(**TINY | {"steps": 1}, mode="bas", centers="identity", layout="shared"),
        PAPER._replace(**TINY, mode=None, bias=True),
        RELEASED._replace(**TINY, mode=None, fed="teacher"),
        RELEASED._replace(groups=1, batch=1, keys=1, steps=1, joints=1, hidden=1, layers=1),
        PAPER._replace(groups=1, batch=3, keys=11, steps=1, centers="identity", sigma=0.5, joints=37),
    ],
    ids=lambda case: f"{case.fed}, {case.mode}, K {case.hidden}, {case.layout}",
)
def test_everything_equals_the_reference(case: Case, device: torch.device) -> None:
    agrees_with_the_reference(case, device)


@poisoned
def test_three_steps_of_the_paper_with_its_folded_bias_equal_the_reference(device: torch.device) -> None:
    agrees_with_the_reference(PAPER._replace(groups=1, batch=2, steps=3, keys=6, hidden=20, bias=True), device)


@poisoned
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@VARIANTS
def test_half_types_lose_only_the_digits_of_the_type(variant: Case, dtype: torch.dtype, device: torch.device) -> None:
    case = variant._replace(groups=1, batch=2, steps=2, keys=3, hidden=20, dtype=dtype)
    inputs = given(case, device)
    ours = run(inputs)
    assert all(tensor.dtype == dtype for tensor in ours if tensor is not None)
    assert_agree(ours, inputs.each(Tensor.double).decode(reference), HALF_TOLERANCE[dtype])


@poisoned
def test_batches_and_units_that_do_not_fill_their_tiles_are_whole(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "choose_cell_tiles", lambda *_: Tiles(16, 16, 16, 2, 2))
    monkeypatch.setattr(launches, "choose_attention_tiles", lambda *_: AttentionTiles(16, 64, 16, 16, 2, 2))
    agrees_with_the_reference(RELEASED._replace(groups=1, batch=17, steps=1, keys=2, hidden=17, layers=1), device)


@poisoned
def test_the_number_of_parts_changes_nothing(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "choose_attention_tiles", lambda *_: AttentionTiles(16, 64, 16, 32, 2, 2))
    inputs = given(PAPER._replace(groups=1, batch=2, steps=1, keys=2, hidden=40), device)
    found = []
    for parts in (1, 2, 3):
        monkeypatch.setattr(launches, "parts_of", lambda *_, parts=parts: parts)
        found.append(run(inputs))
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


@poisoned
@VARIANTS
def test_contexts_alone_are_the_contexts_of_everything(variant: Case, device: torch.device) -> None:
    inputs = given(variant._replace(**ONE_GROUP), device)
    context, loss, *others = kernels.forward(*inputs.arguments(False))
    everything = run(inputs)
    assert torch.equal(context, everything.context)  # type: ignore[arg-type]
    assert torch.equal(loss, everything.loss)
    assert [tuple(tensor.shape) for tensor in others] == [(0,)] * 5


@poisoned
def test_the_last_teacher_frame_is_not_read(device: torch.device) -> None:
    inputs = given(RELEASED._replace(**ONE_GROUP, fed="teacher"), device)
    before = run(inputs)
    inputs.options["teacher"][:, :, -1] = torch.nan
    assert equal(run(inputs), before)


@poisoned
def test_prepared_weights_serve_any_number_of_calls(device: torch.device) -> None:
    inputs = given(PAPER._replace(**ONE_GROUP, bias=True), device)
    encoded, h0, c0, *weights = inputs.arguments(True)
    prepared = launches.prepare(*weights[:6], feedback=True)
    first, again = (kernels.decode(encoded, h0, c0, prepared, None, *weights[7:8], *weights[9:]) for _ in range(2))
    for one, other, whole in zip(first, again, kernels.forward(*inputs.arguments(True)), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, whole)


@poisoned
def test_results_are_equal_bit_for_bit_on_repeat(device: torch.device) -> None:
    inputs = given(PAPER._replace(**ONE_GROUP), device)
    assert equal(run(inputs), run(inputs))


@poisoned
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_programs_of_a_launch_may_run_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Run backwards, a program that reads what another of its launch has written gives other results.
    from triton.runtime.interpreter import interpreter_builder as builder

    monkeypatch.setattr(launches, "choose_cell_tiles", lambda *_: Tiles(16, 16, 32, 2, 2))
    inputs = draw(PAPER._replace(groups=1, batch=2, steps=2, keys=2, hidden=24))
    forwards = run(inputs)
    place = builder.set_grid_idx
    monkeypatch.setattr(builder, "set_grid_idx", lambda x, y, z: place(builder.grid_dim[0] - 1 - x, y, z))
    assert equal(forwards, run(inputs))


@poisoned
def test_no_windows_give_empty_results(device: torch.device) -> None:
    inputs = given(PAPER._replace(batch=0), device)
    for found, wanted in zip(run(inputs), inputs.decode(reference), strict=True):
        assert found.shape == wanted.shape


@poisoned
def test_large_scores_stay_finite_and_exact(device: torch.device) -> None:
    case = PAPER._replace(groups=1, batch=1, steps=2, keys=3, hidden=64)
    inputs = given(case, device)
    inputs = inputs._replace(encoded=inputs.encoded.sign() * 0.999)
    assert_agree(run(inputs), inputs.each(Tensor.double).decode(reference), bound(case))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(2, 2, 3, 16, dtype=torch.float64), "encoded is torch.float64"),
        (0, torch.zeros(2, 2, 16, 3).mT, "encoded has stride 3"),
        (0, torch.zeros(2, 2, 0, 16), "no states to attend to"),
        (
            0,
            torch.zeros(2, 2, 3, 513),
            "513 units; the kernels hold 1 to 512, or multiples of 16 up to 1024",
        ),
        (1, torch.zeros(1, 2, 2, 16), "h0 has shape"),
        (2, torch.zeros(2, 2, 2, 16, dtype=torch.bfloat16), "c0 is torch.bfloat16"),
        (4, [torch.zeros(2, 64)], "each layer three weights"),
        (6, torch.zeros(2, 16, 16), "fusion has shape"),
        (9, torch.zeros(2, 2, 3, 4), "teacher has shape"),
        (10, 0, "steps 1 or more"),
    ],
)
def test_what_would_read_out_of_bounds_is_refused(place: int, value: Any, message: str) -> None:
    changed = list(draw(RELEASED._replace(**TINY)).arguments(True))
    changed[place] = value
    with pytest.raises(ValueError, match=message):
        kernels.forward(*changed)


def planned(case: Case, everything: bool) -> list[Launch]:
    """The launches of a case."""
    found: list[Launch] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Launch, "run", lambda launch: found.append(launch))
        kernels.forward(*draw(case).arguments(everything))
    return found


@VARIANTS
def test_six_steps_of_two_layers_are_eighteen_launches(variant: Case) -> None:
    launched = planned(variant, everything=False)
    names = [launch.kernel.__name__ for launch in launched]
    assert names == ["cell_forward", "cell_forward", "attend"] * 6


@VARIANTS
def test_what_algebra_saves_is_not_computed(variant: Case) -> None:
    bottom = [launch.arguments for launch in planned(variant, everything=False)[::3]]
    attention = [launch.arguments for launch in planned(variant, everything=False)[2::3]]
    assert [cell["has_below"] for cell in bottom] == [0, 1, 1, 1, 1, 1]
    assert all(cell["p_skeleton"] is None for cell in bottom)
    assert [launch["p_fusion"] is None for launch in attention] == [False] * 5 + [True]
    assert all(launch["p_alignment"] is None for launch in attention)
    wholly = [launch.arguments for launch in planned(variant, everything=True)[2::3]]
    assert not any(launch["p_fusion"] is None or launch["p_alignment"] is None for launch in wholly)


def test_a_folded_bias_is_not_read_at_the_first_step() -> None:
    bottom = [launch.arguments for launch in planned(PAPER._replace(bias=True), everything=False)[::3]]
    assert [cell["p_fed_bias"] is None for cell in bottom] == [True] + [False] * 5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 70, 3000])
@VARIANTS
def test_every_tile_equals_the_reference_at_the_models_sizes(variant: Case, batch: int, dtype: torch.dtype) -> None:
    case = variant._replace(batch=batch, joints=20, hidden=256, dtype=dtype)
    agrees_with_the_reference(case, torch.device("cuda"), HALF_TOLERANCE.get(dtype), precision="ieee")


@pytest.mark.gpu
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_width_equals_the_reference(width: int, dtype: torch.dtype) -> None:
    for hidden, batch in ((width, 40), (min(width, 512) - 3, 40), (width, 5000)):
        case = PAPER._replace(batch=batch, hidden=hidden, steps=3, dtype=dtype)
        agrees_with_the_reference(case, torch.device("cuda"), HALF_TOLERANCE.get(dtype), precision="ieee")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32x3", 1e-5), ("tf32", 2e-2)])
def test_matrix_units_keep_the_digits_that_their_precision_promises(precision: str, tolerance: float) -> None:
    case = RELEASED._replace(batch=70, joints=20, hidden=256)
    agrees_with_the_reference(case, torch.device("cuda"), tolerance, precision=precision)


@pytest.mark.gpu
@VARIANTS
def test_a_cuda_graph_repeats_a_decode(variant: Case) -> None:
    inputs = given(variant._replace(batch=33, hidden=64), torch.device("cuda"))
    wanted = run(inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run(inputs)
    inputs.encoded.neg_()
    graph.replay()
    inputs.encoded.neg_()
    graph.replay()
    torch.cuda.synchronize()
    assert equal(found, wanted)
