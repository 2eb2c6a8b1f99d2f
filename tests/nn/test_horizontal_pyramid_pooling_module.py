"""The module HorizontalPyramidPooling: what it holds, and that it is the op."""

from __future__ import annotations

import pytest
import torch

from sgela_fast.nn import HorizontalPyramidPooling
from sgela_fast.ops.horizontal_pyramid_pooling import horizontal_pyramid_pooling


@pytest.mark.parametrize("strips_first", [False, True])
def test_the_module_is_the_op(strips_first: bool) -> None:
    features = torch.randn(2, 3, 4, 6, 5)
    module = HorizontalPyramidPooling((1, 3), strips_first=strips_first)
    assert torch.equal(module(features), horizontal_pyramid_pooling(features, (1, 3), strips_first=strips_first))


def test_the_module_has_nothing_to_learn_and_knows_its_strips() -> None:
    module = HorizontalPyramidPooling()
    assert not list(module.parameters())
    assert not module.state_dict()
    assert module.strips == 31


def test_the_representation_names_what_is_unusual() -> None:
    assert repr(HorizontalPyramidPooling()) == "HorizontalPyramidPooling(bins=(1, 2, 4, 8, 16))"
    assert "strips_first=True" in repr(HorizontalPyramidPooling((1, 2), strips_first=True))


def test_wrong_arguments_are_refused_when_the_module_is_made() -> None:
    with pytest.raises(ValueError, match=r"bins is \(\); give one number of strips or more"):
        HorizontalPyramidPooling(())
    with pytest.raises(ValueError, match="backend is 'cuda'; choose auto, reference or fused"):
        HorizontalPyramidPooling(backend="cuda")  # type: ignore[arg-type]
