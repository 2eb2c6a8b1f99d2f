"""The model on the fused ops: the reference's values and gradients, frozen weights, reduced precision."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.errors import ConfigError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import SGELA, FusedSGELA, build_model
from sgela_fast.ops import _decoder_encoding, attention_decoder, batched_lstm

HERE = all(op.why_not_fused("cpu", torch.float32) is None for op in (attention_decoder, batched_lstm))
pytestmark = pytest.mark.skipif(not HERE, reason="the compiled extension is not there")
KINDS = list(itertools.product(["official", "paper"], ["las", "mbas", "bas", "none"], [True, False]))


def pair(dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[SGELA, SGELA]:
    """The reference and the fused model with the same weights."""
    config = SGELAConfig(**{"hidden": 16, "joints": 5, **settings})
    return tuple(build_model(config, backend, seed=3, dtype=dtype) for backend in ("reference", "fused"))  # type: ignore[arg-type,return-value]


def frozen(precision: Any = "fp32", **settings: Any) -> SGELA:
    return build_model(SGELAConfig(**{"hidden": 16, "joints": 5, **settings}), "fused", precision, seed=3).freeze()


@pytest.mark.parametrize(("variant", "attention", "reverse"), KINDS)
def test_losses_and_gradients_are_those_of_the_reference(variant: Any, attention: Any, reverse: bool) -> None:
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
        reference, fused = pair(dtype, variant=variant, attention=attention, reverse=reverse)
        assert isinstance(fused, FusedSGELA)
        skeletons = torch.randn(3, 7, 6, 5, dtype=dtype)
        expected, found = reference(skeletons), fused(skeletons)
        losses, fused_losses = reference.loss(expected), fused.loss(found)
        for name in ("total", "reconstruction", "attention", "regularisation"):
            torch.testing.assert_close(getattr(fused_losses, name), getattr(losses, name), rtol=1e-6, atol=1e-7)
        losses.total.backward()
        fused_losses.total.backward()
        for (name, one), other in zip(reference.named_parameters(), fused.parameters(), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert (one.grad - other.grad).abs().max() <= tolerance * one.grad.abs().max(), name


@pytest.mark.parametrize(("variant", "attention", "reverse"), KINDS)
def test_encodings_and_tensors_are_those_of_the_reference(variant: Any, attention: Any, reverse: bool) -> None:
    reference, fused = pair(variant=variant, attention=attention, reverse=reverse)
    windows = torch.randn(9, 6, 5, 3)
    with torch.no_grad():
        for feature in ("states",) if attention == "none" else ("states", "ages"):
            expected = reference.encodings(windows, feature)  # type: ignore[arg-type]
            for model in (fused, fused.freeze()):
                found = model.encodings(windows, feature)  # type: ignore[arg-type]
                torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
            fused.unfreeze()
        for one, other in zip(reference(windows.movedim(-1, 0)), fused(windows.movedim(-1, 0)), strict=True):
            for tensor, computed in zip(listed(one), listed(other), strict=True):
                torch.testing.assert_close(computed, tensor, rtol=0, atol=5e-6)


def listed(entry: Any) -> list[Tensor]:
    return [] if entry is None else [entry] if isinstance(entry, Tensor) else list(entry)


def test_both_share_one_state_dict_and_one_seed() -> None:
    reference, fused = pair(variant="paper")
    assert list(reference.state_dict()) == list(fused.state_dict())
    for name, weight in reference.state_dict().items():
        assert torch.equal(weight, fused.state_dict()[name])
    other = build_model(reference.config, "fused", seed=8)
    other.load_state_dict(reference.state_dict())
    windows = torch.randn(2, 6, 5, 3)
    with torch.no_grad():
        torch.testing.assert_close(other.ages(windows), reference.ages(windows), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(2, 7, 6, 5), (3, 7, 6, 4), (3, 7, 5)])
def test_other_windows_are_refused(shape: tuple[int, ...]) -> None:
    _, fused = pair()
    with pytest.raises(ValueError, match=r"^skeletons have the shape .* but the model reads \(axes 3, windows, frames"):
        fused(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"^skeletons have the shape "):
        fused.ages(torch.zeros(shape).movedim(0, -1))


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_model_and_loss_compile_into_one_graph(backend: Any) -> None:
    model = build_model(SGELAConfig(hidden=4, joints=3, frames=2), backend)
    skeletons = torch.randn(3, 2, 2, 3)
    model.loss(model(skeletons)).total.backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: model.loss(model(x)).total, fullgraph=True, backend="eager")
    compiled(skeletons).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_frozen_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen()
    monkeypatch.setattr(_decoder_encoding, "packed_weights", None)  # what looks for changed weights
    monkeypatch.setattr(batched_lstm, "packed_weights", None)
    assert model.frozen
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.inference_mode():
        assert model.ages(torch.randn(1, 6, 5, 3)).shape == (1, 6, 48)


def test_a_state_dict_loaded_into_a_frozen_model_is_encoded_with() -> None:
    model, other = frozen(), build_model(SGELAConfig(hidden=16, joints=5), "fused", seed=9)
    model.load_state_dict(other.state_dict())
    windows = torch.randn(2, 6, 5, 3)
    with torch.no_grad():
        assert torch.equal(model.ages(windows), other.ages(windows))


def test_weights_changed_after_freezing_are_noticed() -> None:
    model, windows = frozen(), torch.randn(2, 6, 5, 3)
    before = model.ages(windows)
    with torch.no_grad():
        model.encoder.get_parameter("weight_hh_l0").mul_(2)
    with pytest.raises(RuntimeError, match=r"^the weights of a frozen model have changed; call freeze\(\) again"):
        model.ages(windows)
    assert not torch.equal(model.freeze().ages(windows), before)
    with torch.no_grad():
        model.unfreeze().encoder.get_parameter("weight_hh_l0").div_(2)
        assert torch.equal(model.ages(windows), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_model_moves_and_copies() -> None:
    model, windows = frozen(), torch.randn(2, 6, 5, 3)
    before = model.ages(windows)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.frozen
        assert torch.equal(other.ages(windows), before)
    torch.testing.assert_close(model.double().ages(windows.double()), before.double(), rtol=0, atol=2e-6)


def test_the_reference_freezes_too() -> None:
    model = build_model(SGELAConfig(hidden=4, joints=5), "reference")
    assert not any(parameter.requires_grad for parameter in model.freeze().parameters())
    assert model.frozen
    assert all(parameter.requires_grad for parameter in model.unfreeze().parameters())


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 5e-3), ("int8", 2e-2)])
@pytest.mark.parametrize("variant", ["official", "paper"])
def test_reduced_weights_encode_nearly_the_same(variant: Any, precision: Any, bound: float) -> None:
    reference, _ = pair(variant=variant)
    model = build_model(reference.config, "auto", precision, seed=3)
    windows = torch.randn(9, 6, 5, 3)
    with torch.no_grad():
        exact, unfrozen = reference.ages(windows), model.ages(windows)
        found = model.freeze().ages(windows)
    assert torch.equal(found, unfrozen)
    assert 0 < (found - exact).norm() / exact.norm() < bound


def test_int8_has_no_forward_pass() -> None:
    with pytest.raises(ConfigError) as caught:
        frozen("int8")(torch.zeros(3, 1, 6, 5))
    assert str(caught.value) == ("precision int8 is for encoding alone; build the model with fp32 or bf16 to train it")


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_bf16_trains_near_float32_with_float32_weights(backend: Any) -> None:
    config = SGELAConfig(hidden=16, joints=5)
    exact = build_model(config, "reference", seed=3)
    model = build_model(config, backend, "bf16", seed=3)
    skeletons = torch.randn(3, 7, 6, 5)
    losses, wanted = model.loss(model(skeletons)), exact.loss(exact(skeletons))
    for name in ("total", "reconstruction", "attention"):
        torch.testing.assert_close(getattr(losses, name).float(), getattr(wanted, name), rtol=2e-2, atol=1e-3)
    assert not torch.equal(losses.total, wanted.total)
    losses.total.backward()
    wanted.total.backward()
    for one, other in zip(exact.parameters(), model.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert other.grad.dtype == torch.float32
        assert (one.grad - other.grad).norm() <= 0.05 * one.grad.norm()
