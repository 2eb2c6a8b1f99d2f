"""The SGE-LA model: what it consists of, and what must not influence what."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.reference.sgela import SGELA

VARIANTS = ("official", "paper")
ATTENTIONS = ("las", "mbas", "bas", "none")


def small(dtype: torch.dtype = torch.float64, **settings: Any) -> SGELA:
    """A small model with weights large enough for every path to matter."""
    config = SGELAConfig(**{"frames": 4, "joints": 5, "hidden": 6, **settings})
    model = build_model(config, "reference", seed=1, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, dtype=dtype))
    return model


def windows_of(model: SGELA, batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    config = model.config
    return torch.randn(config.axes, batch, config.frames, config.joints, dtype=dtype)


def test_official_model_has_the_released_codes_size() -> None:
    model = SGELA(SGELAConfig(variant="official"))
    assert sum(p.numel() for p in model.parameters()) == 6_245_436
    assert sum(p.numel() for p in model.encoder.parameters()) == 3 * 808_960


def test_paper_model_has_neither_key_projection_nor_output_bias() -> None:
    model = SGELA(SGELAConfig(variant="paper"))
    assert sum(p.numel() for p in model.parameters()) == 6_245_436 - 3 * (256 * 256 + 20)
    assert model.key_weight is None
    assert model.output_bias is None


def test_forget_bias_is_no_parameter_and_not_stored() -> None:
    model = small()
    assert not any("forget" in name for name in model.state_dict())
    added = model.encoder.weights()[0].bias - model.encoder.get_parameter("bias_l0")
    expected = torch.zeros(24, dtype=torch.float64)
    expected[6:12] = 1
    torch.testing.assert_close(added, expected.expand(3, -1))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_changing_one_axis_changes_no_other(variant: Any, attention: Any, axis: int) -> None:
    model = small(variant=variant, attention=attention)
    others = [a for a in range(3) if a != axis]
    skeletons = windows_of(model)
    results = []
    for change in (0.0, 1.0):
        skeletons[axis] += change
        model.zero_grad()
        output = model(skeletons)
        model.loss(output).total.backward()
        outputs = [output.reconstruction, output.encoded, output.alignment_loss]
        gradients = [p.grad for p in model.parameters()]
        results.append((outputs, gradients))
    (before, gradients_before), (after, gradients_after) = results
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[others], other[others])
    assert not torch.equal(before[0][axis], after[0][axis])
    for one, other in zip(gradients_before, gradients_after, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one[others], other[others])


def test_permuting_the_axes_of_weights_and_input_permutes_the_output() -> None:
    model = small()
    skeletons = windows_of(model)
    order = [2, 0, 1]
    before = model(skeletons)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter[order].clone())
    after = model(skeletons[order])
    torch.testing.assert_close(after.reconstruction, before.reconstruction[order], rtol=0, atol=1e-14)
    torch.testing.assert_close(after.context, before.context[order], rtol=0, atol=1e-14)
    torch.testing.assert_close(after.encoder_state.h, before.encoder_state.h[:, order], rtol=0, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_decoder_inputs_differ_from_the_second_step_on(variant: Any) -> None:
    model = small(variant=variant)
    skeletons = windows_of(model)
    by_input = {name: model(skeletons, name).reconstruction for name in ("teacher", "zeros", "feedback")}
    for one, other in itertools.combinations(by_input.values(), 2):
        assert torch.equal(one[:, :, 0], other[:, :, 0])
        assert (one[:, :, 1:] - other[:, :, 1:]).abs().amax(dim=(0, 1, 3)).min() > 1e-6


def test_variants_choose_their_decoder_input() -> None:
    for variant, training, encoding in [("official", "zeros", "zeros"), ("paper", "teacher", "feedback")]:
        model = small(variant=variant)
        skeletons = windows_of(model)
        assert torch.equal(model(skeletons).reconstruction, model(skeletons, training).reconstruction)
        ages = model.ages(skeletons.movedim(0, -1))
        blocks = ages.unflatten(2, (3, 6)).movedim(2, 0)
        assert torch.equal(blocks, model(skeletons, encoding).context)


def test_a_decoder_of_zeros_gives_the_skeleton_inputs_weight_decay_only() -> None:
    model = small(variant="official", beta=0.0)
    model.loss(model(windows_of(model))).total.backward()
    gradient = model.decoder.get_parameter("weight_ih_l0").grad
    assert gradient is not None
    assert torch.all(gradient[..., :5] == 0)
    assert torch.any(gradient[..., 5:] != 0)


def test_ages_do_not_depend_on_decoder_targets_beyond_the_encoder() -> None:
    # The zeros decoder sees the window only through the encoder: plain and reversed targets give the same AGEs.
    reverse, plain = small(reverse=True), small(reverse=False)
    plain.load_state_dict(reverse.state_dict())
    windows = windows_of(reverse).movedim(0, -1)
    assert torch.equal(reverse.ages(windows), plain.ages(windows))


@pytest.mark.parametrize("attention", ["las", "mbas", "bas"])
def test_ages_are_x_y_z_blocks_of_alignment_times_encoder_states(attention: Any) -> None:
    model = small(attention=attention)
    skeletons = windows_of(model)
    output = model(skeletons)
    ages = model.ages(skeletons.movedim(0, -1))
    assert ages.shape == (3, 4, 18)
    for axis in range(3):
        for b in range(3):
            expected = output.alignment[axis, b] @ output.encoded[axis, b]
            torch.testing.assert_close(ages[b, :, 6 * axis : 6 * axis + 6], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("attention", ["las", "none"])
def test_states_are_x_y_z_blocks_of_the_encoded_gait_states(attention: Any) -> None:
    model = small(attention=attention)
    skeletons = windows_of(model)
    states = model.states(skeletons.movedim(0, -1))
    assert states.shape == (3, 4, 18)
    for axis in range(3):
        assert torch.equal(states[..., 6 * axis : 6 * axis + 6], model(skeletons).encoded[axis])


def test_without_attention_there_are_no_ages() -> None:
    model = small(attention="none")
    with pytest.raises(ValueError, match=r"^a model with attention 'none' has no AGEs; take its encoded gait states, "):
        model.ages(windows_of(model).movedim(0, -1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_ages_do_not_depend_on_what_else_is_in_the_batch(variant: Any) -> None:
    model = small(torch.float32, variant=variant, hidden=32, joints=20, frames=6)
    windows = torch.randn(9, 6, 20, 3)
    together = model.ages(windows)
    alone = torch.cat([model.ages(window[None]) for window in windows])
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-6)
    order = torch.randperm(9)
    torch.testing.assert_close(model.ages(windows[order]), together[order], rtol=0, atol=2e-6)


def test_reverse_reconstruction_aims_at_the_reversed_window() -> None:
    model, plain = small(reverse=True), small(reverse=False)
    skeletons = windows_of(model)
    assert torch.equal(model(skeletons).target, skeletons.flip(2))
    assert torch.equal(plain(skeletons).target, skeletons)


def test_the_locality_mask_follows_the_direction() -> None:
    reverse, plain = small(reverse=True), small(reverse=False)
    plain.load_state_dict(reverse.state_dict())
    skeletons = windows_of(reverse)
    for model, flipped in [(reverse, True), (plain, False)]:
        output = model(skeletons)
        positions = torch.arange(4, dtype=torch.float64)
        centers = positions.flip(0) if flipped else positions
        mask = torch.exp(-((positions - centers[:, None]) ** 2) / (2 * 2.0**2))
        expected = (output.alignment * (1 - mask)).square().sum((-2, -1))
        torch.testing.assert_close(output.alignment_loss, expected, rtol=0, atol=1e-13)


def test_official_loss_is_half_the_plain_sums() -> None:
    halved, whole = small(), small(loss_factor=1.0)
    whole.load_state_dict(halved.state_dict())
    skeletons = windows_of(halved)
    one, two = halved.loss(halved(skeletons)), whole.loss(whole(skeletons))
    torch.testing.assert_close(2 * one.total, two.total)
    squares = sum(float((p.detach() ** 2).sum()) for p in halved.parameters())
    assert float(one.regularisation.detach()) == pytest.approx(0.02 * squares / 2)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("frames", "joints", "hidden", "layers"), [(1, 1, 1, 1), (9, 25, 7, 1), (3, 14, 8, 3)])
def test_any_size_runs_and_every_parameter_is_used(
    variant: Any, attention: Any, frames: int, joints: int, hidden: int, layers: int
) -> None:
    model = small(
        variant=variant, attention=attention, frames=frames, joints=joints, hidden=hidden, layers=layers, beta=0.0
    )
    output = model(windows_of(model, batch=2), "teacher")
    assert output.reconstruction.shape == (3, 2, frames, joints)
    assert output.decoder_h.shape == (layers, 3, 2, frames, hidden)
    model.loss(output).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # One key takes all the weight whatever its score, so a single frame teaches the key projection nothing.
        assert frames == 1 or torch.any(parameter.grad != 0), name


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_windows_of_another_length_than_the_configured_one_run(frames: int) -> None:
    model = small()
    assert model.ages(torch.randn(2, frames, 5, 3, dtype=torch.float64)).shape == (2, frames, 18)


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_stays_in_float64(variant: Any) -> None:
    model = small(variant=variant)
    output = model(windows_of(model))
    tensors = [value for value in output if isinstance(value, Tensor)] + [*output.encoder_state, *model.loss(output)]
    assert all(tensor.dtype == torch.float64 for tensor in tensors)
    single = small(torch.float32, variant=variant)
    single.load_state_dict(model.state_dict())
    skeletons = windows_of(model)
    difference = (single(skeletons.float()).reconstruction.double() - model(skeletons).reconstruction).abs().max()
    assert difference < 5e-6


def test_no_windows_give_no_ages() -> None:
    model = small()
    assert model.ages(torch.zeros(0, 4, 5, 3, dtype=torch.float64)).shape == (0, 4, 18)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 4, 5, 2), (4, 5, 3)])
def test_windows_of_another_shape_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"skeletons have the shape .* but the model reads \(axes 3, .* joints 5\)"):
        small().ages(torch.zeros(shape, dtype=torch.float64))


def test_repeating_gives_the_same_bits() -> None:
    model = small(torch.float32)
    skeletons = windows_of(model, dtype=torch.float32)
    assert torch.equal(model(skeletons).reconstruction, model(skeletons).reconstruction)


def test_gradcheck_of_the_whole_objective() -> None:
    model = small(variant="paper", joints=2, hidden=3, frames=3)
    skeletons = windows_of(model, batch=2).requires_grad_()

    def run(skeletons: Tensor, *_: Tensor) -> Tensor:
        total: Tensor = model.loss(model(skeletons)).total
        return total

    assert torch.autograd.gradcheck(run, (skeletons, *model.parameters()), fast_mode=True)
