"""Claims about the module of gated temporal pooling."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgela_fast.nn.gated_temporal_pooling import GatedTemporalPooling
from sgela_fast.reference.gated_temporal_pooling import MicroMotionTemplate

GAITPART: dict[str, Any] = {"bias": False, "negative_slope": 0.01}


def plain_modules(count: int = 3, **settings: Any) -> list[MicroMotionTemplate]:
    return [MicroMotionTemplate(8, 2, **settings) for _ in range(count)]


@pytest.mark.parametrize("settings", [{}, GAITPART], ids=["selfgait", "gaitpart"])
def test_equals_the_plain_modules_it_was_made_from(settings: dict[str, Any]) -> None:
    modules = plain_modules(**settings)
    features = torch.randn(3, 2, 7, 8)
    pooled = GatedTemporalPooling.from_modules(modules)(features)
    for strip, module in enumerate(modules):
        torch.testing.assert_close(pooled[strip], module(features[strip].mT).amax(dim=-1))


@pytest.mark.parametrize("settings", [{}, GAITPART, {"windows": (7,), "kernel_sizes": ((5, 3),)}])
def test_state_dicts_are_those_of_the_plain_modules_stacked(settings: dict[str, Any]) -> None:
    modules = plain_modules(**settings)
    state = GatedTemporalPooling.from_modules(modules).state_dict()
    assert list(state) == list(modules[0].state_dict())
    for name, tensor in state.items():
        assert torch.equal(tensor, torch.stack([module.state_dict()[name] for module in modules]))


def test_to_modules_gives_back_what_came_from_modules() -> None:
    modules = plain_modules(**GAITPART)
    returned = GatedTemporalPooling.from_modules(modules).eval().to_modules()
    for before, after in zip(modules, returned, strict=True):
        assert not after.training
        assert str(before) == str(after)
        assert all(torch.equal(before.state_dict()[name], tensor) for name, tensor in after.state_dict().items())
        assert all(a.data_ptr() != b.data_ptr() for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_weights_may_be_parametrised() -> None:
    module, features = GatedTemporalPooling(3, 8, 2), torch.randn(3, 2, 7, 8)
    plain = module(features)
    torch.nn.utils.parametrizations.weight_norm(module.get_submodule("gates.0.0"))
    torch.testing.assert_close(module(features), plain)
    strips = module.to_modules()
    torch.testing.assert_close(strips[1](features[1].mT).amax(dim=-1), plain[1])
    module(features).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_weights_start_as_those_of_convolutions_do() -> None:
    module = GatedTemporalPooling(40, 16, 8)
    conv1 = module.get_parameter("gates.0.0.weight")
    assert conv1.shape == (40, 8, 16, 3)
    bound = 48**-0.5
    assert 0.99 * bound < conv1.abs().max() < bound
    assert conv1.mean().abs() < 0.01 * bound * 5


def test_every_parameter_learns() -> None:
    module = GatedTemporalPooling(2, 8)
    module(torch.randn(2, 6, 9, 8)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_lengths_and_reduce_reach_the_op() -> None:
    module = GatedTemporalPooling(2, 4, reduce="none")
    output = module(torch.randn(2, 2, 5, 4), torch.tensor([5, 2]))
    assert output.shape == (2, 2, 5, 4)
    assert not output[:, 1, 2:].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strips": 0}, "strips is 0; it must be 1 or more"),
        ({"hidden": 0}, "hidden is 0; it must be 1 or more"),
        ({"windows": (3,)}, "kernel_sizes has 2 pairs and windows 1 entries; there must be one pair a window"),
        ({"kernel_sizes": ((3, 2), (3, 3))}, r"kernel_sizes holds \(3, 2\); each must be odd and 1 or more"),
        ({"windows": (3, 4)}, "windows holds 4; each must be an odd integer, to keep the number of frames"),
        ({"reduce": "mean"}, "reduce is 'mean'; choose max or none"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        GatedTemporalPooling(**({"strips": 2, "channels": 4} | settings))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "modules is empty; there must be one module or more"),
        ([{}, GAITPART], r"modules\[1\] has bias=False and modules\[0\] True; they must be equal"),
        ([{}, {"windows": (3, 7)}], r"modules\[1\] has windows=\(3, 7\) and modules\[0\] \(3, 5\); they must be equal"),
    ],
)
def test_modules_that_differ_are_refused(others: list[dict[str, Any]], message: str) -> None:
    modules = [MicroMotionTemplate(8, 2, **settings) for settings in others]
    with pytest.raises(ValueError, match=f"^{message}$"):
        GatedTemporalPooling.from_modules(modules)


def test_modules_of_two_dtypes_are_refused() -> None:
    modules = [*plain_modules(1), plain_modules(1)[0].double()]
    with pytest.raises(ValueError, match=r"^modules\[1\] is torch.float64 on cpu and modules\[0\] torch.float32"):
        GatedTemporalPooling.from_modules(modules)


def test_shows_what_it_is() -> None:
    assert "extra" not in repr(GatedTemporalPooling(31, 128))
    assert repr(GatedTemporalPooling(31, 128, **GAITPART)).splitlines()[1].strip() == (
        "31, 128, 32, bias=False, negative_slope=0.01"
    )
