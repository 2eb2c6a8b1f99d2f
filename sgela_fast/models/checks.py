"""Checks that the settings of several floors share. Imports no torch: settings are read for the command line's help."""

from __future__ import annotations

import math

from sgela_fast.errors import ConfigError


def require_choices(section: str, settings: object, choices: dict[str, tuple[str, ...]]) -> None:
    """Every named setting is one of its choices.

    Raises:
        ConfigError: one is not.
    """
    for name, allowed in choices.items():
        value = getattr(settings, name)
        if value not in allowed:
            listed = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
            raise ConfigError(f"{section}.{name} is {value!r}; choose {listed}")


def require_at_least(section: str, settings: object, least: float, *names: str) -> None:
    """Every named setting is a finite number, not below ``least``.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        value = getattr(settings, name)
        if not value >= least or not math.isfinite(value):
            raise ConfigError(f"{section}.{name} is {value}; it must be a finite number of at least {least}")


def require_positive(section: str, settings: object, *names: str) -> None:
    """Every named setting is a finite number above 0.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        value = getattr(settings, name)
        if not value > 0 or not math.isfinite(value):
            raise ConfigError(f"{section}.{name} is {value}; it must be a finite number above 0")
