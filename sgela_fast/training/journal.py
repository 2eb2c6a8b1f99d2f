"""Where a training run stands: its log, its checkpoints, the last good weights, and how it ends. Of either system."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NoReturn

import torch

from sgela_fast.checkpoints.run_folder import WEIGHTS, save_weights, write_info, write_run
from sgela_fast.errors import DivergenceError, Interrupted
from sgela_fast.models.selfgait import SelfGait
from sgela_fast.models.sgela import SGELA
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.checkpoint import load_checkpoint, save_checkpoint
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.monitor import Monitor
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig


class Journal:
    """Counts the steps of a run and writes its folder meanwhile.

    Args:
        out: the run folder.
        settings: what ``run.json`` says.
        training: when to log and to save, and how long to train.
        model: what is trained.
        optimiser: of its parameters.
        scaler: of losses in float16.
        mend: what to do about a run that diverged, for the error.
        leads: whether this process writes; all others only count.

    Attributes:
        step: steps taken, those of earlier parts included.
        seconds: spent on them.
        saved: the step whose weights are on disk.
        monitor: the log; there once :meth:`open` was called.
    """

    monitor: Monitor

    def __init__(
        self,
        out: Path,
        settings: dict[str, Any],
        training: TrainingConfig | SelfGaitTrainingConfig,
        model: SGELA | SelfGait,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
        *,
        mend: str,
        leads: bool = True,
    ) -> None:
        self.out, self.settings, self.training, self.leads = out, settings, training, leads
        self.model, self.optimiser, self.scaler = model, optimiser, scaler
        self.step = self.saved = 0
        self.seconds = 0.0
        self._history: list[dict[str, Any]] = []
        self._off_beat: int | None = None  # the log entry that only the end of an earlier part made
        self._mend = mend

    def resume(self) -> None:
        """Go on from the newest checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged or of another model or optimiser.
        """
        state = load_checkpoint(self.out, self.model, self.optimiser, self.scaler)
        self.step = self.saved = state["step"]
        self.seconds, self._history, self._off_beat = state["seconds"], state["history"], state.get("off_beat")

    def open(self, total: int) -> None:
        """Begin to write into the folder, which is claimed, for a run of ``total`` steps.

        Raises:
            MissingDependencyError: TensorBoard is asked for but not installed.
            OutputError: its files cannot be written.
        """
        history = self._history
        if self.step < total:
            history = [entry for entry in history if entry["step"] != self._off_beat]
            self._off_beat = None
        self.monitor = Monitor(self.out, history, self.step, tensorboard=self.training.tensorboard and self.leads)

    def begin(self) -> None:
        """Start the clock, and leave good weights to go back to from the first step on."""
        self._began = time.monotonic() - self.seconds
        if self.step == 0:
            self.save()

    def advance(self) -> None:
        """Count a step."""
        self.step += 1
        self.seconds = time.monotonic() - self._began

    @property
    def out_of_budget(self) -> bool:
        """Whether the time is spent."""
        return 0 < 60 * self.training.budget_minutes <= self.seconds

    def wants_entry(self, last: bool) -> bool:
        """Whether the step, ``last`` or not, gets an entry in the log."""
        return last or self._on_beat

    @property
    def _on_beat(self) -> bool:
        return self.step % self.training.log_every == 0 or self.step == 1

    def log(self, values: dict[str, float]) -> None:
        """Record the step's values."""
        self.monitor.log(self.step, **values, seconds=round(self.seconds, 3))
        self._off_beat = None if self._on_beat else self.step

    def wants_checkpoint(self, last: bool) -> bool:
        """Whether the step, ``last`` or not, gets a checkpoint."""
        return last or self.step % self.training.checkpoint_every == 0

    def save(self) -> None:
        """Write a checkpoint and the weights.

        Raises:
            DivergenceError: a weight is not finite.
            OutputError: they cannot be written; earlier checkpoints stay.
        """
        self.require_finite_weights()
        self.saved = self.step
        if not self.leads:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.monitor.history,
            "off_beat": self._off_beat,
        }
        if self.scaler is not None and self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        save_checkpoint(self.out, self.model, self.optimiser, state, self.training.keep_checkpoints)
        save_weights(self.out / WEIGHTS, self.model.state_dict())
        self.monitor.save()

    def require_finite_weights(self) -> None:
        """Raise :class:`~sgela_fast.errors.DivergenceError` if a weight or running statistic is not a number."""
        if not self._weights_are_finite():
            self._diverge("a weight is infinite or NaN", self.step)

    def stop_at_bad_loss(self, loss: float, norm: float) -> NoReturn:
        """End in the step behind the last one, which was good: ``loss`` or the gradient's ``norm`` is not finite.

        Raises:
            DivergenceError: always.
        """
        if self._weights_are_finite():
            self.save()
        self._diverge(f"loss {loss}, gradient norm {norm}", self.step + 1)

    def interrupt(self) -> NoReturn:
        """End because the user asks for it; what was done is saved.

        Raises:
            Interrupted: always.
        """
        self._mark("interrupted", self.step)
        raise Interrupted(f"stopped after step {self.step}; go on with the same command and --resume ({self.out})")

    def finish(self, state: str, window: WindowConfig | ClipConfig) -> None:
        """Write the run folder as it stays.

        Args:
            state: that the run ends in.
            window: how recordings become what the model reads.
        """
        self.close()
        info = {**self.settings, "state": state, "step": self.step, "seconds": self.seconds}
        write_run(self.out, self.model, window=window, layout=self.settings["layout"], info=info)

    def close(self) -> None:
        """Flush the log."""
        self.monitor.close()

    def _weights_are_finite(self) -> bool:
        return all(bool(torch.isfinite(value).all()) for value in self.model.state_dict().values())

    def _diverge(self, what: str, step: int) -> NoReturn:
        self._mark("diverged", self.saved)
        raise DivergenceError(
            f"training diverged at step {step} ({what}); the weights of step {self.saved} are kept in {self.out}; "
            f"{self._mend}"
        )

    def _mark(self, state: str, step: int) -> None:
        if self.leads:
            write_info(self.out, {**self.settings, "state": state, "step": step})
