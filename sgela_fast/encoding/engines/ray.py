"""Units on the workers of a Ray cluster."""

from __future__ import annotations

from typing import Any

from sgela_fast.errors import ConfigError


def run(*arguments: Any, **named: Any) -> Any:
    """Not in this release.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("engine 'ray' is not in this release; choose local")
