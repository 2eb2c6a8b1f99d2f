"""Build the SGE-LA model on a backend."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from sgela_fast.errors import ConfigError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.initialisation import initialise
from sgela_fast.reference.sgela import SGELA

Backend = Literal["auto", "reference", "fused"]


class BackendChoice(NamedTuple):
    """Which backend runs, and why."""

    name: str
    reason: str


def choose_backend(wanted: Backend) -> BackendChoice:
    """Resolve ``auto``.

    Raises:
        ConfigError: the wanted backend does not exist here.
    """
    if wanted == "reference":
        return BackendChoice("reference", "as asked for")
    if wanted == "auto":
        return BackendChoice("reference", "the model does not use the fused ops yet")
    if wanted == "fused":
        raise ConfigError("backend 'fused' is not in this release; choose auto or reference")
    raise ConfigError(f"unknown backend {wanted!r}; choose auto, reference or fused")


def build_model(
    config: SGELAConfig,
    backend: Backend = "auto",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SGELA:
    """Build a model with fresh weights.

    Args:
        config: what the model is.
        backend: ``reference`` is plain PyTorch; ``auto`` picks the fastest that is available.
        seed: the weights are a function of it alone.
        dtype: of weights and arithmetic.
        device: where the weights live.

    Raises:
        ConfigError: the backend does not exist here.
    """
    choose_backend(backend)
    model = SGELA(config)
    initialise(model, seed)
    return model.to(device=device, dtype=dtype)
