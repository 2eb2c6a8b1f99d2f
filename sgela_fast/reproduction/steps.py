"""How many steps the encoders of a reproduction are trained for: all the same, so that they can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sgela_fast.reproduction.cells import Cell, EncoderSpec
from sgela_fast.reproduction.config import JobConfig
from sgela_fast.reproduction.encoders import Encoders

_REPLICAS = 5  # tier of cells from which on encoders do not share the budget's steps


def decide_steps(cells: Sequence[Cell], encoders: Encoders, job: JobConfig, announce: Callable[[str], None]) -> int:
    """Steps of all encoders; 0 for the epochs of the settings.

    What the settings say counts first, then what encoders from elsewhere have, then what the budget allows.

    Args:
        cells: of the plan.
        encoders: with their settings.
        job: budget and processes.
        announce: called with what was decided.
    """
    training = encoders.config.training
    if training.max_steps:
        return training.max_steps
    specs = _compared(cells)
    elsewhere = encoders.steps_elsewhere(specs)
    if elsewhere:
        announce(f"all encoders are trained for {elsewhere:,} steps, as those found elsewhere")
        return elsewhere
    if job.seconds is None or not specs:
        return 0
    seconds = job.seconds * job.training_share * job.jobs
    allowed = int(seconds / (len(specs) * encoders.step_seconds))
    most = min(training.epochs * encoders.steps_an_epoch(spec) for spec in specs)
    steps = max(1, min(most, _two_digits(allowed)))
    announce(f"all {len(specs)} encoders are trained for {steps:,} steps each, to keep to the budget")
    return steps


def _compared(cells: Sequence[Cell]) -> list[EncoderSpec]:
    """Trained encoders of the first seed and split, those of the sweeps aside."""
    specs = [cell.work.needs for cell in cells if cell.order[0] < _REPLICAS]
    return list(dict.fromkeys(spec for spec in specs if spec is not None and spec.trained))


def _two_digits(number: int) -> int:
    """Rounded down to two significant digits: nobody remembers 3,187 steps."""
    scale = 10 ** max(0, len(str(number)) - 2)
    return number // scale * scale
