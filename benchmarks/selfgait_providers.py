"""Who trains and encodes with SelfGait in ``benchmarks.selfgait``, and the float64 results they are held to.

Of a training step the first is compared; later ones go on from the weights that it left, so that every call does all
the work of training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sgela_fast.benchmarks import others
from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.benchmarks.training_step_providers import gradients_of
from sgela_fast.models.config import Backend
from sgela_fast.models.selfgait import SelfGait, build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig
from sgela_fast.training.selfgait.step import build_selfgait_optimiser

SMALL = SelfGaitConfig(
    frames=10, height=32, width=22, channels=(8, 16, 32), bins=(1, 2, 4, 8), embedding=32, projector=64
)
CONFIGS = {
    "tiny": SelfGaitConfig(frames=4, height=16, width=12, channels=(2, 4, 4), bins=(1, 2), embedding=4, projector=4),
    "small": SMALL,
    "full": SelfGaitConfig(),
}
# Sums of 10^5 products and more, through six convolutions and batch statistics.
TOLERANCE = 2e-3
# Two pixels whose maximum float32 cannot tell apart: the gradient goes to the one or to the other. Plain torch was
# seen off by 8e-3.
GRADIENT_TOLERANCE = 2e-2


def config_of(case: Case) -> SelfGaitConfig:
    """The model of a case."""
    return CONFIGS[str(case.settings["config"])]


def views_of(case: Case) -> tuple[Tensor, Tensor]:
    """Two views of N clips: blobs of pixels, not noise."""
    config, generator = config_of(case), torch.Generator().manual_seed(0)
    shape = (2 * int(case.settings["N"]), config.frames, config.height // 4, config.width // 2)
    coarse = (torch.rand(shape, generator=generator) < 0.5).float()
    clips = coarse.repeat_interleave(4, dim=2).repeat_interleave(2, dim=3).to(case.device)
    first, second = clips.chunk(2)
    return first, second


def _compared(name: str) -> bool:
    """Whether a parameter has a gradient: one that shifts what is then normalised has none but rounding."""
    return name.startswith("online") and not name.endswith(("hidden.bias", "projector.output.bias"))


def _gradients(model: SelfGait) -> dict[str, Tensor]:
    return {name: gradient for name, gradient in gradients_of(model).items() if _compared(name)}


def _build(case: Case, backend: Backend, dtype: torch.dtype = torch.float32) -> SelfGait:
    return build_selfgait(config_of(case), backend, seed=1, dtype=dtype, device=case.device)


def expected(case: Case, answer: str) -> Outputs:
    """Embeddings, or loss and gradients, of the reference in float64."""
    model = _build(case, "reference", torch.float64)
    first, second = (view.double() for view in views_of(case))
    if case.settings["job"] == "encode":
        with torch.no_grad():
            return {"embeddings": model.eval().embed(first)}
    loss = model.train().loss(model(first, second))
    loss.backward()
    return {"loss": loss.detach(), **_gradients(model)}


def tolerance(case: Case, _precision: str) -> dict[str, float]:
    """Largest deviations, relative to the largest entry of each gradient."""
    if case.settings["job"] == "encode":
        return {"embeddings": TOLERANCE}
    with torch.device("meta"):
        names = [name for name, _ in SelfGait(config_of(case)).named_parameters()]
    return {"loss": TOLERANCE, **dict.fromkeys(filter(_compared, names), GRADIENT_TOLERANCE)}


def _encoding(case: Case, embed: Callable[[Tensor], Tensor]) -> Job:
    clips, _ = views_of(case)

    @torch.inference_mode()
    def job() -> Outputs:
        return {"embeddings": embed(clips)}

    return job


def _training(case: Case, model: SelfGait, objective: Callable[[Tensor, Tensor], Tensor]) -> Job:
    first, second = views_of(case)
    optimiser = build_selfgait_optimiser(model.train(), SelfGaitTrainingConfig())

    def job() -> Outputs:
        optimiser.zero_grad(set_to_none=True)
        loss = objective(first, second)
        loss.backward()
        optimiser.step()
        model.update_target()
        return {"loss": loss.detach(), **_gradients(model)}

    return job


def _objective(model: SelfGait) -> Callable[[Tensor, Tensor], Tensor]:
    def objective(first: Tensor, second: Tensor) -> Tensor:
        return model.loss(model(first, second))

    return objective


def _prepare(case: Case, model: SelfGait) -> Job:
    if case.settings["job"] == "encode":
        return _encoding(case, model.eval().embed)
    return _training(case, model, _objective(model))


def prepare_fused(case: Case) -> Job:
    """The model on this package's ops."""
    return _prepare(case, _build(case, "fused"))


def prepare_eager(case: Case) -> Job:
    """The reference."""
    return _prepare(case, _build(case, "reference"))


def prepare_channels_last(case: Case) -> Job:
    """The reference, its convolutions channels last: one line that a user may well have written."""
    model = _build(case, "reference")
    for embedder in (model.online, model.target):
        for weight in embedder.frames.parameters():
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return _prepare(case, model)


def prepare_compiled(case: Case) -> Job:
    """The reference's passes, compiled; optimiser and moving average are the same as elsewhere."""
    if not case.settings["compiled"]:
        raise Unavailable("compiling takes a minute or more: --grid full does it for every size")
    model = _build(case, "reference")
    if case.settings["job"] == "encode":
        return _encoding(case, others.compiled(model.eval().embed, "default", None))
    return _training(case, model, others.compiled(_objective(model), "default", None))


PROVIDERS = (
    Provider("fused", prepare_fused),
    Provider("eager", prepare_eager, note="reference"),
    Provider("channels last", prepare_channels_last, note="reference, its frame networks channels last"),
    Provider("compile", prepare_compiled, note="torch.compile of the reference", compiles=True),
)
