"""The gait decoder against the equations written step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights, attention_decoder
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState, lstm_cell
from sgela_fast.reference.locality_attention import locality_attention

GROUPS, BATCH, FRAMES, JOINTS, HIDDEN = 2, 3, 4, 5, 6


def random(*shape: int) -> Tensor:
    return 0.5 * torch.randn(*shape, dtype=torch.float64)


@dataclass
class Case:
    encoded: Tensor
    state: LSTMState
    weights: DecoderWeights
    target: Tensor

    def decode(self, **options: Any) -> DecoderOutput:
        return attention_decoder(self.encoded, self.state, self.weights, **{"steps": FRAMES, **options})


def make_case(*, key: bool = True, bias: bool = True, attends: bool = True, layers: int = 2) -> Case:
    widths = [JOINTS + (HIDDEN if attends else 0)] + [HIDDEN] * (layers - 1)
    return Case(
        encoded=random(GROUPS, BATCH, FRAMES, HIDDEN),
        state=LSTMState(random(layers, GROUPS, BATCH, HIDDEN), random(layers, GROUPS, BATCH, HIDDEN)),
        weights=DecoderWeights(
            layers=[
                LSTMLayer(
                    random(GROUPS, 4 * HIDDEN, width), random(GROUPS, 4 * HIDDEN, HIDDEN), random(GROUPS, 4 * HIDDEN)
                )
                for width in widths
            ],
            key=random(GROUPS, HIDDEN, HIDDEN) if key else None,
            fusion=random(GROUPS, HIDDEN, 2 * HIDDEN) if attends else None,
            output=random(GROUPS, JOINTS, HIDDEN),
            output_bias=random(GROUPS, JOINTS) if bias else None,
        ),
        target=random(GROUPS, BATCH, FRAMES, JOINTS),
    )


@pytest.mark.parametrize("fed", ["teacher", "zeros", "feedback"])
@pytest.mark.parametrize("fusion", ["tanh", "linear"])
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("centers", ["reverse", "identity"])
def test_equals_the_equations_for_one_window(fed: str, fusion: str, general: bool, centers: str) -> None:
    case = make_case(key=general)
    found = case.decode(
        teacher=case.target if fed == "teacher" else None,
        feedback=fed == "feedback",
        fusion=fusion,
        centers=centers,
        sigma=1.5,
    )
    g, b = 1, 2
    weights = case.weights
    states = [(case.state.h[layer, g, b], case.state.c[layer, g, b]) for layer in range(2)]
    memory = case.encoded[g, b]  # (T, K)
    keys = memory if weights.key is None else torch.stack([weights.key[g] @ m for m in memory])
    skeleton, attentional = torch.zeros(JOINTS, dtype=torch.float64), torch.zeros(HIDDEN, dtype=torch.float64)
    loss = 0.0
    for t in range(FRAMES):
        x = torch.cat([skeleton, attentional])
        for layer in range(2):
            one = LSTMLayer(*(tensor[g : g + 1] for tensor in weights.layers[layer]))
            h, c = lstm_cell(x[None, None], *(s[None, None] for s in states[layer]), one)
            states[layer] = h[0, 0], c[0, 0]
            x = h[0, 0]
        alignment = torch.stack([x @ key for key in keys]).softmax(0)  # Eq. 4
        context = sum(alignment[j] * memory[j] for j in range(FRAMES))  # Eq. 8
        center = t if centers == "identity" else FRAMES - 1 - t
        for j in range(FRAMES):
            mask = torch.exp(torch.tensor(-((j - center) ** 2) / (2 * 1.5**2), dtype=torch.float64))
            loss += float((alignment[j] * (1 - mask)) ** 2)  # Eq. 7
        assert weights.fusion is not None
        assert weights.output_bias is not None
        attentional = weights.fusion[g] @ torch.cat([x, context])  # Eq. 9
        attentional = attentional.tanh() if fusion == "tanh" else attentional
        prediction = weights.output[g] @ attentional + weights.output_bias[g]  # Eq. 10
        for ours, expected in [
            (found.alignment, alignment),
            (found.context, context),
            (found.attentional, attentional),
            (found.reconstruction, prediction),
        ]:
            assert ours is not None
            torch.testing.assert_close(ours[g, b, t], expected, rtol=0, atol=1e-13)
        for layer in range(2):
            torch.testing.assert_close(found.h[layer, g, b, t], states[layer][0], rtol=0, atol=1e-13)
            torch.testing.assert_close(found.c[layer, g, b, t], states[layer][1], rtol=0, atol=1e-13)
        if fed == "teacher":
            skeleton = case.target[g, b, t]
        elif fed == "feedback":
            skeleton = prediction
    assert float(found.loss[g, b]) == pytest.approx(loss, abs=1e-13)


def test_the_first_step_is_the_same_whatever_is_fed() -> None:
    case = make_case()
    zeros, teacher, feedback = case.decode(), case.decode(teacher=case.target), case.decode(feedback=True)
    assert torch.equal(zeros.reconstruction[:, :, 0], teacher.reconstruction[:, :, 0])
    assert torch.equal(zeros.reconstruction[:, :, 0], feedback.reconstruction[:, :, 0])
    for one, other in [(zeros, teacher), (zeros, feedback), (teacher, feedback)]:
        assert not torch.allclose(one.reconstruction[:, :, 1:], other.reconstruction[:, :, 1:])


def test_a_teacher_of_zeros_is_no_teacher() -> None:
    case = make_case()
    taught = case.decode(teacher=torch.zeros_like(case.target))
    assert torch.equal(taught.reconstruction, case.decode().reconstruction)


def test_feedback_equals_a_teacher_that_repeats_the_predictions() -> None:
    case = make_case()
    free = case.decode(feedback=True)
    taught = case.decode(teacher=free.reconstruction)
    torch.testing.assert_close(taught.reconstruction, free.reconstruction, rtol=0, atol=1e-14)


def test_the_last_teacher_frame_is_not_read_and_no_frame_is_read_early() -> None:
    case = make_case()
    before = case.decode(teacher=case.target).reconstruction
    for frame in range(FRAMES):
        changed = case.target.clone()
        changed[:, :, frame] += 1
        after = case.decode(teacher=changed).reconstruction
        assert torch.equal(after[:, :, : frame + 1], before[:, :, : frame + 1])
        if frame + 1 < FRAMES:
            assert not torch.allclose(after[:, :, frame + 1], before[:, :, frame + 1])


def test_without_attention_the_encoder_is_seen_through_the_state_only() -> None:
    case = make_case(key=False, attends=False)
    found = case.decode(mode=None)
    assert found.context is None
    assert found.alignment is None
    assert torch.all(found.loss == 0)
    assert torch.equal(found.attentional, found.h[-1])
    case.encoded = case.encoded + 1
    assert torch.equal(case.decode(mode=None).reconstruction, found.reconstruction)


def test_only_las_has_a_loss_and_mbas_another_context() -> None:
    case = make_case()
    las, mbas, bas = (case.decode(mode=mode) for mode in ("las", "mbas", "bas"))
    assert torch.equal(las.reconstruction, bas.reconstruction)
    assert torch.all(las.loss > 0)
    assert torch.all(bas.loss == 0)
    assert torch.all(mbas.loss == 0)
    assert mbas.context is not None
    assert bas.context is not None
    assert not torch.allclose(mbas.context, bas.context)


def test_alignments_are_those_of_all_rows_at_once() -> None:
    case = make_case(key=False)
    found = case.decode(sigma=2.0)
    together = locality_attention(found.h[-1], case.encoded, sigma=2.0, return_alignment=True)
    torch.testing.assert_close(found.alignment, together.alignment, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.context, together.context, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.loss, together.loss, rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_steps_and_layers(steps: int, layers: int) -> None:
    found = make_case(layers=layers, bias=False).decode(steps=steps)
    assert found.reconstruction.shape == (GROUPS, BATCH, steps, JOINTS)
    assert found.alignment is not None
    assert found.alignment.shape == (GROUPS, BATCH, steps, FRAMES)
    assert found.h.shape == found.c.shape == (layers, GROUPS, BATCH, steps, HIDDEN)


def test_gradcheck() -> None:
    case = make_case()
    leaves = [case.encoded.requires_grad_(), case.target.requires_grad_()]
    leaves += [tensor.requires_grad_() for tensor in (case.weights.key, case.weights.fusion) if tensor is not None]

    def run(*_: Tensor) -> tuple[Tensor, Tensor]:
        found = case.decode(teacher=case.target, steps=3)
        return found.reconstruction, found.loss

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
