"""A step is the same however its batch is cut up; float16 steps that overflow change the scale alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sgela_fast.errors import CheckpointError
from sgela_fast.models import backend
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.archive import Archive
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.launch import Launch
from sgela_fast.training.optimiser import build_optimiser, build_scaler
from sgela_fast.training.ranks import Ranks
from sgela_fast.training.step import StepLosses, Stepper
from sgela_fast.training.trainer import train

Settings = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")


def stepper(rank: int = 0, size: int = 1, model: dict[str, Any] | None = None, **training: Any) -> Stepper:
    config = TrainingConfig(**{"batch": 4, "preset": "paper", **training})
    built = build_model(SGELAConfig(hidden=6, joints=4, **(model or {})), "auto", seed=2)
    optimiser = build_optimiser(built, config)
    ranks = Ranks(Launch(rank, size, rank))
    return Stepper(built, built, optimiser, build_scaler(CPU, config.precision), config, ranks)


def gradients(of: Stepper) -> list[torch.Tensor]:
    return [parameter.grad for parameter in of.model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("attention", ["las", "bas"])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(attention: Any) -> None:
    # A large beta, so that a norm that entered twice could not hide.
    settings = {"model": {"attention": attention, "beta": 3.0, "lambda_attention": 2.0}}
    whole, parts = stepper(batch=12, **settings), stepper(batch=4, accumulate=3, **settings)
    batch = torch.randn(3, 12, 6, 4)
    losses, found = whole.backward(batch), parts.backward(batch)
    assert found == pytest.approx(losses, rel=2e-6)
    for one, other in zip(gradients(whole), gradients(parts), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5 * float(one.abs().max()))


def test_the_whole_step_is_clipped_not_its_parts() -> None:
    whole, parts = stepper(batch=12, clip=0.05), stepper(batch=4, accumulate=3, clip=0.05)
    batch = 5 * torch.randn(3, 12, 6, 4)
    for one in (whole, parts):
        one.backward(batch)
        one.update()
    clipped = [(gradient.abs() >= 0.05).double().mean() for gradient in gradients(whole)]
    assert max(clipped) > 0.1
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-7)


def test_shares_of_several_processes_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "sum", lambda self, values: values)
    whole = stepper(batch=12, model={"beta": 3.0})
    batch = torch.randn(3, 12, 6, 4)
    expected = whole.backward(batch)
    shares = [stepper(rank, 3, batch=12, model={"beta": 3.0}) for rank in range(3)]
    losses = [one.backward(one.ranks.share(batch.movedim(1, -1)).movedim(-1, 1)) for one in shares]
    assert sum(share.reconstruction for share in losses) == pytest.approx(expected.reconstruction)
    assert sum(share.attention for share in losses) == pytest.approx(expected.attention)
    for parts in zip(*(gradients(one) for one in (whole, *shares)), strict=True):
        torch.testing.assert_close(sum(parts[1:]), parts[0], rtol=1e-5, atol=1e-5 * float(parts[0].abs().max()))


@pytest.mark.parametrize("training", [{"accumulate": 2, "batch": 4}, {"precision": "bf16"}])
@pytest.mark.parametrize("preset", ["official", "paper"])
def test_a_resumed_run_is_bit_equal(
    archive: Archive, tmp_path: Path, settings: Settings, preset: str, training: dict[str, Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(archive, whole, **settings(preset, max_steps=6, **training))
    train(archive, parts, **settings(preset, max_steps=3, **training))
    train(archive, parts, **settings(preset, max_steps=6, **training), resume=True)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_an_accumulated_run_is_one_with_larger_batches(archive: Archive, tmp_path: Path, settings: Settings) -> None:
    train(archive, tmp_path / "whole", **settings("paper"))
    lines: list[str] = []
    train(archive, tmp_path / "parts", **settings("paper", batch=2, accumulate=4), announce=lines.append)
    assert lines[0].endswith("; 8 windows a step")
    weights = load_file(tmp_path / "parts" / "model.safetensors")
    for name, weight in load_file(tmp_path / "whole" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6)


def test_fused_and_reference_train_alike(archive: Archive, tmp_path: Path, settings: Settings) -> None:
    histories = []
    for name in ("reference", "auto"):
        train(archive, tmp_path / name, **settings("paper", max_steps=50, backend=name, learning_rate=0.002))
        histories.append(json.loads((tmp_path / name / "history.json").read_text()))
    assert histories[0][-1]["reconstruction"] < 0.8 * histories[0][0]["reconstruction"]
    for one, other in zip(*histories, strict=True):
        assert other["reconstruction"] == pytest.approx(one["reconstruction"], rel=1e-4)
        assert other["attention"] == pytest.approx(one["attention"], rel=1e-4)


def test_a_run_goes_on_with_the_other_backend(archive: Archive, out: Path, settings: Settings) -> None:
    train(archive, out, **settings(max_steps=3, backend="reference"))
    assert train(archive, out, **settings(max_steps=6, backend="auto"), resume=True).step == 6


@pytest.fixture
def half_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU take float16, as torch's autocast there does."""
    monkeypatch.setattr(backend, "why_not_precision", lambda precision, device: None)


@pytest.mark.usefixtures("half_on_the_cpu")
def test_float16_scales_the_loss_and_resumes_bit_equal(archive: Archive, tmp_path: Path, settings: Settings) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    chosen = {"precision": "fp16", "backend": "reference"}
    train(archive, whole, **settings(max_steps=6, **chosen))
    train(archive, parts, **settings(max_steps=3, **chosen))
    (state,) = (parts / "checkpoints").glob("step-*3/state.json")
    written = json.loads(state.read_text())
    assert written.pop("scaler")["scale"] > 1
    train(archive, parts, **settings(max_steps=6, **chosen), resume=True)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    for newest in (parts / "checkpoints").glob("step-*/state.json"):
        newest.write_text(json.dumps(written))
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        train(archive, parts, **settings(max_steps=6, **chosen), resume=True)


@pytest.mark.usefixtures("half_on_the_cpu")
def test_gradients_that_overflow_lower_the_scale_and_leave_the_weights() -> None:
    one = stepper(precision="fp16")
    before = [parameter.detach().clone() for parameter in one.model.parameters()]
    losses = one.backward(torch.randn(3, 4, 6, 4))
    for gradient in gradients(one):
        gradient.fill_(torch.inf)
    one.scaler._found_inf_per_device(one.optimiser)[CPU].fill_(1.0)  # as unscaling finds
    scale = one.scaler.get_scale()
    assert one.may_update(losses._replace(norm=torch.inf))
    one.update()
    assert one.scaler.get_scale() == scale / 2
    for parameter, weight in zip(one.model.parameters(), before, strict=True):
        assert torch.equal(parameter, weight)


def test_a_step_that_is_not_finite_is_refused() -> None:
    one = stepper()
    assert one.may_update(StepLosses(1.0, 1.0, 0.0, 0.0, 1.0))
    assert not one.may_update(StepLosses(1.0, 1.0, 0.0, 0.0, torch.inf))
    assert not one.may_update(StepLosses(torch.nan, 1.0, 0.0, 0.0, 1.0))
