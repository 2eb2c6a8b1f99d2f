"""Initial weights of both variants."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.models.tf_layout import lstm_kernel_to_tf
from sgela_fast.reference.sgela import SGELA

HIDDEN = 16


def fresh(variant: Any, seed: int = 3, **settings: Any) -> SGELA:
    return build_model(SGELAConfig(variant=variant, hidden=HIDDEN, **settings), "reference", seed=seed)


def kernels(model: SGELA, axis: int) -> dict[str, Tensor]:
    """The LSTM kernels of one axis as TensorFlow lays them out, flattened."""
    return {
        f"{role}{layer}": lstm_kernel_to_tf(
            stack.get_parameter(f"weight_ih_l{layer}")[axis], stack.get_parameter(f"weight_hh_l{layer}")[axis]
        ).flatten()
        for role, stack in (("encoder", model.encoder), ("decoder", model.decoder))
        for layer in range(2)
    }


def test_official_kernels_are_prefixes_of_one_stream() -> None:
    found = kernels(fresh("official"), 0)
    longest = max(found.values(), key=len)
    assert len({len(kernel) for kernel in found.values()}) == 3
    for kernel in found.values():
        assert torch.equal(kernel, longest[: len(kernel)])


def test_official_kernels_of_one_size_start_equal_on_all_axes() -> None:
    model = fresh("official")
    for axis in range(3):
        found = kernels(model, axis)
        assert torch.equal(found["encoder1"], found["decoder1"])
        for name, kernel in kernels(model, 0).items():
            assert torch.equal(found[name], kernel)


def test_paper_kernels_are_all_drawn_anew() -> None:
    model = fresh("paper")
    assert not torch.equal(kernels(model, 0)["encoder1"], kernels(model, 0)["decoder1"])
    assert not torch.equal(kernels(model, 0)["encoder0"], kernels(model, 1)["encoder0"])


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_ranges_and_zeros(variant: Any) -> None:
    model = fresh(variant)
    for kernel in kernels(model, 1).values():
        assert kernel.abs().max() <= 0.1
        assert kernel.abs().max() > 0.099
        assert kernel.mean().abs() < 0.01
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert torch.all(parameter == 0), name
    assert model.fusion_weight is not None
    bound = math.sqrt(6 / (3 * HIDDEN))
    assert 0.95 * bound < model.fusion_weight.abs().max() <= bound
    if model.key_weight is not None:
        bound = math.sqrt(6 / (2 * HIDDEN))
        assert 0.95 * bound < model.key_weight.abs().max() <= bound
    assert model.output_weight.abs().max() <= 0.2
    # A normal of 0.1 cut at two deviations has a deviation of 0.088.
    assert model.output_weight.std().item() == pytest.approx(0.088, abs=0.006)


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_weights_are_a_function_of_the_seed(variant: Any) -> None:
    first = fresh(variant).state_dict()
    torch.manual_seed(99)
    torch.rand(5)
    again, other = fresh(variant).state_dict(), fresh(variant, seed=4).state_dict()
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert "bias" in name or not torch.equal(weight, other[name])


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    fresh("official")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_float64_starts_from_the_same_numbers(variant: Any) -> None:
    single = fresh(variant)
    double = build_model(single.config, "reference", seed=3, dtype=torch.float64)
    for name, weight in single.state_dict().items():
        assert torch.equal(weight.double(), double.state_dict()[name])


@pytest.mark.parametrize("attention", ["none", "bas"])
def test_every_weight_is_written(attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: empty(*args, **kwargs).fill_(math.nan))
    for variant in ("official", "paper"):
        for name, weight in fresh(variant, attention=attention, layers=3).state_dict().items():
            assert torch.isfinite(weight).all(), name
