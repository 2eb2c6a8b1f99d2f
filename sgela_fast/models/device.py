"""The device that a job computes on."""

from __future__ import annotations

import torch

from sgela_fast.errors import ConfigError


def choose_device(wanted: str, setting: str) -> torch.device:
    """Resolve ``auto`` to CUDA where torch sees a device, else to the CPU.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.
        setting: name of the setting that says so, for the message.

    Raises:
        ConfigError: CUDA is asked for but torch sees no device.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{setting} is cuda but torch sees no CUDA device; use --{setting} cpu")
    return torch.device(wanted)
