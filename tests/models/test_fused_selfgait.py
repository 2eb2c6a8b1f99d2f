"""SelfGait on the fused ops: the reference's state dict, values, gradients and moving average."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.errors import ConfigError
from sgela_fast.models.selfgait import OPS, FusedSelfGait, SelfGait, build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig

TINY: dict[str, Any] = {"frames": 5, "height": 16, "width": 12, "channels": (4, 4, 8), "bins": (1, 2, 4)}
TINY |= {"embedding": 6, "projector": 10}


def build(backend: Any, dtype: torch.dtype = torch.float64, **settings: Any) -> SelfGait:
    return build_selfgait(SelfGaitConfig(**{**TINY, **settings}), backend, seed=3, dtype=dtype)


def views(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 3, 5, 16, 12, generator=generator, dtype=torch.float64).to(dtype)
    return first, second


@pytest.fixture(autouse=True)
def _needs_kernels() -> None:
    missing = [reason for op in OPS if (reason := op.why_not_fused("cpu", torch.float32)) is not None]
    if missing:
        pytest.skip(missing[0])


def test_auto_takes_the_fused_ops_on_the_cpu_and_says_so() -> None:
    model = build("auto")
    assert isinstance(model, FusedSelfGait)
    assert model.choice.reason.startswith("auto: compiled kernels")


@pytest.mark.parametrize("variant", ["canonical", "released"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_the_references(variant: Any, dtype: torch.dtype) -> None:
    reference, fused = build("reference", dtype, variant=variant), build("fused", dtype, variant=variant)
    losses = []
    for model in (reference, fused):
        loss = model.loss(model(*views(dtype)))
        loss.backward()
        losses.append(loss.detach())
    tolerance = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-5}
    torch.testing.assert_close(losses[1], losses[0], **tolerance)
    others = dict(reference.named_parameters())
    for name, parameter in fused.named_parameters():
        torch.testing.assert_close(parameter.grad, others[name].grad, **tolerance)


def test_embeddings_of_any_number_of_frames_are_the_references() -> None:
    reference, fused = build("reference").eval(), build("fused").eval()
    for frames in (1, 2, 9):
        clips = torch.rand(2, frames, 16, 12, dtype=torch.float64)
        torch.testing.assert_close(fused.embed(clips), reference.embed(clips))


def test_state_dicts_are_the_same() -> None:
    reference, fused = build("reference"), build("fused")
    assert list(reference.state_dict()) == list(fused.state_dict())
    for name, value in reference.state_dict().items():
        assert torch.equal(value, fused.state_dict()[name]), name


@pytest.mark.parametrize("variant", ["canonical", "released"])
def test_moving_average_in_one_call_is_bit_equal_to_that_in_turn(variant: Any) -> None:
    models = build("reference", variant=variant), build("fused", variant=variant)
    for model in models:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.online.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            model.online_head.projector.norm.running_mean.fill_(3.0)
        model.update_target()
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name


def test_weights_are_a_function_of_the_seed_alone() -> None:
    one, other = build("reference"), build("fused", torch.float32)
    for name, value in one.state_dict().items():
        assert torch.equal(value.float(), other.state_dict()[name].float()), name
    assert not torch.equal(
        build_selfgait(SelfGaitConfig(**TINY), "fused", seed=4).online.strip_weight, other.online.strip_weight
    )


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose auto, reference or fused"):
        build("fast")
