"""Who makes the step in ``benchmarks.training_step``, and the float64 losses and gradients it is held to.

The first step is compared; later ones go on from the weights that it left, so that every call does all the work of
training. The optimiser is the same for all: its update needs no comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sgela_fast.benchmarks import others
from sgela_fast.benchmarks.encoding_providers import config_of, windows_of
from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.reference.sgela import SGELA
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.optimiser import build_optimiser

# Sums of 10^5 products and more: a few hundred roundings of float32 against the largest entry.
TOLERANCE, TF32_TOLERANCE = 2e-5, 5e-2


def parameters_of(case: Case) -> int:
    """Numbers in all parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SGELA(config_of(case)).parameters())


def batch_of(case: Case) -> Tensor:
    """Windows as the model reads them in training, ``(A, B, T, J)``."""
    return windows_of(case).movedim(-1, 0).contiguous()


def expected(case: Case, _answer: str) -> Outputs:
    """Loss and gradients of the reference in float64."""
    model = build_model(config_of(case), "reference", seed=1, dtype=torch.float64, device=case.device)
    loss = model.loss(model(batch_of(case).double())).total
    loss.backward()
    return {"loss": loss.detach(), **gradients_of(model)}


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """Gradients by the names of their parameters; parameters without one are left out."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def tolerance(case: Case, _precision: str) -> dict[str, float]:
    """Largest deviations, relative to the largest entry of each gradient."""
    bound = TF32_TOLERANCE if case.settings["precision"] == "tf32" else TOLERANCE
    with torch.device("meta"):
        names = [name for name, _ in SGELA(config_of(case)).named_parameters()]
    return dict.fromkeys(["loss", *names], bound)


def _job(model: SGELA, objective: Callable[[Tensor], Tensor], case: Case) -> Job:
    batch = batch_of(case)
    optimiser = build_optimiser(model.train(), TrainingConfig())

    def job() -> Outputs:
        optimiser.zero_grad(set_to_none=True)
        loss = objective(batch)
        loss.backward()
        optimiser.step()
        return {"loss": loss.detach(), **gradients_of(model)}

    return job


def _objective(model: SGELA) -> Callable[[Tensor], Tensor]:
    def objective(batch: Tensor) -> Tensor:
        return model.loss(model(batch)).total

    return objective


def prepare_fused(case: Case) -> Job:
    """The model on this package's ops."""
    model = build_model(config_of(case), "fused", seed=1, device=case.device)
    return _job(model, _objective(model), case)


def prepare_eager(case: Case) -> Job:
    """The reference."""
    model = _reference(config_of(case), case.device)
    return _job(model, _objective(model), case)


def prepare_compiled(case: Case) -> Job:
    """The reference's forward and backward passes and losses, compiled for one batch size, as training has."""
    if not case.settings["compiled"]:
        raise Unavailable("compiling takes a minute or more: --grid full does it for every size")
    model = _reference(config_of(case), case.device)
    return _job(model, others.compiled(_objective(model), "default", None), case)


def _reference(config: SGELAConfig, device: str) -> SGELA:
    return build_model(config, "reference", seed=1, device=device)


PROVIDERS = (
    Provider("fused", prepare_fused),
    Provider("eager", prepare_eager, note="reference"),
    Provider("compile", prepare_compiled, note="torch.compile of the reference", compiles=True),
)
