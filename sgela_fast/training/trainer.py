"""Self-supervised training of the gait encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from sgela_fast.atomic import make_folder, write_text
from sgela_fast.checkpoints.run_folder import INDEX, WEIGHTS, read_info, save_weights, write_info, write_run
from sgela_fast.errors import CheckpointError, ConfigError, DivergenceError, Interrupted, OutputError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model, choose_backend
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.batches import Order, Windows, load_windows, split_rows
from sgela_fast.training.checkpoint import load_checkpoint, save_checkpoint
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.monitor import Monitor
from sgela_fast.training.optimiser import build_optimiser, clip_gradients, gradient_norm
from sgela_fast.training.stopping import StopRequest

VALIDATION_WINDOWS = 1024
NOT_RESUMABLE = ("device", "threads", "log_every", "keep_checkpoints", "budget_minutes", "tensorboard")


@dataclass(frozen=True)
class TrainingResult:
    """What training ended with.

    Attributes:
        run: the run folder.
        state: ``finished`` or ``out of budget``.
        step: optimiser steps taken, resumed parts included.
        epochs: passes over the training windows, with fractions.
        reconstruction: L_R per window of the last log entry (sum over axes, frames and joints).
        attention: L_A per window, likewise.
        validation: L_R per window on the recordings kept aside, ``None`` without any.
        notes: one sentence each on what was left out of training.
    """

    run: Path
    state: str
    step: int
    epochs: float
    reconstruction: float
    attention: float
    validation: float | None
    notes: list[str]


def train(
    archive: str | Path | Archive,
    out: str | Path,
    model: SGELAConfig | None = None,
    window: WindowConfig | None = None,
    training: TrainingConfig | None = None,
    *,
    resume: bool = False,
    progress: Callable[..., None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train a gait encoder without labels and leave it in the run folder ``out``.

    Args:
        archive: an archive or its folder.
        out: run folder to make.
        model: what the model is; joints and frames follow archive and ``window``.
        window: how recordings become windows.
        training: how to train.
        resume: go on from the newest checkpoint in ``out``; on the CPU the result is bit-equal to an uninterrupted
            run with the same number of threads.
        progress: called as ``progress(steps, note=...)``.
        announce: called with one-line remarks (device, backend, windows).

    Raises:
        DataError: the archive has no windows to train on, or lacks the split column.
        ConfigError: settings contradict each other or the archive.
        OutputError: ``out`` holds a run already, or cannot be written.
        CheckpointError: nothing to resume from, or it was made with other settings.
        DivergenceError: a loss or gradient is not finite; the last good weights are kept.
        Interrupted: stopped by the user; resume with ``resume=True``.
    """
    job = _Job(archive, Path(out), model or SGELAConfig(), window or WindowConfig(), training or TrainingConfig())
    return job.run(resume, progress or (lambda units=1, note="": None), announce or (lambda line: None))


class _Job:
    def __init__(
        self,
        archive: str | Path | Archive,
        out: Path,
        model: SGELAConfig,
        window: WindowConfig,
        training: TrainingConfig,
    ) -> None:
        self.archive = archive if isinstance(archive, Archive) else Archive(archive)
        self.out, self.window, self.training = out, window, training
        if model.axes != 3:
            raise ConfigError(f"model.axes is {model.axes} but skeletons have 3 axes; leave it at 3")
        self.config = _fit(model, len(self.archive.layout), window.frames)
        self.device = _choose_device(training.device)

    def run(self, resume: bool, progress: Callable[..., None], announce: Callable[[str], None]) -> TrainingResult:
        settings = self._settings()
        self._claim(resume, settings)
        if self.training.threads:
            torch.set_num_threads(self.training.threads)
        backend = choose_backend(self.training.backend)
        announce(f"device: {self.device} ({self.training.device}); backend: {backend.name} ({backend.reason})")

        rows, aside = split_rows(self.archive, self.training)
        windows, index = load_windows(self.archive, rows, self.window, self.device)
        watched = load_windows(self.archive, aside, self.window, self.device)[0] if aside else None
        order = Order(len(windows), self.config.axes, self.training)
        notes = _notes(index.short_recordings, index.skipped_windows)
        announce(
            f"{len(rows)} recordings, {len(windows):,} windows, {order.batches:,} steps an epoch; "
            f"{len(aside)} recordings kept aside to watch the loss"
        )
        self.model = build_model(
            self.config, self.training.backend, seed=self.training.seed, device=self.device
        ).train()
        self.optimiser = build_optimiser(self.model, self.training)
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "history": []}
        if resume:
            self.state = load_checkpoint(self.out, self.model, self.optimiser)
        self.monitor = Monitor(
            self.out, self.state["history"], self.state["step"], tensorboard=self.training.tensorboard
        )
        try:
            ended = self._loop(windows, watched, order, progress)
        finally:
            self.monitor.close()
        last = self.monitor.history[-1] if self.monitor.history else {}
        write_run(
            self.out,
            self.model,
            window=self.window,
            layout=self.archive.layout.name,
            info={**settings, "state": ended, "step": self.state["step"], "seconds": self.state["seconds"]},
        )
        return TrainingResult(
            run=self.out,
            state=ended,
            step=self.state["step"],
            epochs=self.state["step"] / order.batches,
            reconstruction=last.get("reconstruction", math.nan),
            attention=last.get("attention", math.nan),
            validation=last.get("validation"),
            notes=notes,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "model": asdict(self.config),
            "window": asdict(self.window),
            "training": asdict(self.training),
            "layout": self.archive.layout.name,
            "archive": {"path": str(self.archive.path), "fingerprint": self.archive.fingerprint},
            "torch": torch.__version__,
        }

    def _claim(self, resume: bool, settings: dict[str, Any]) -> None:
        """Take possession of the run folder, or check that it is the one to go on with."""
        if not resume:
            if (self.out / INDEX).exists():
                raise OutputError(f"{self.out} already holds a run; choose another --out or go on with --resume")
            make_folder(self.out)
            named = {name: settings[name] for name in ("model", "window", "training")}
            write_text(self.out / "config.yaml", yaml.safe_dump(named, sort_keys=False))
            write_info(self.out, {**settings, "state": "training"})
            return
        found = read_info(self.out)
        if found.get("archive", {}).get("fingerprint") != self.archive.fingerprint:
            raise CheckpointError(
                f"{self.out} was trained on another archive than {self.archive.path}; resume with the same archive"
            )
        for section in ("model", "window", "training"):
            for name, value in settings[section].items():
                if name not in NOT_RESUMABLE and found[section].get(name) != value:
                    if name in ("epochs", "max_steps"):
                        continue  # training longer than first planned is what resuming is for
                    raise CheckpointError(
                        f"{self.out} was made with {section}.{name} = {found[section].get(name)!r}, not {value!r}; "
                        "resume with the settings in its config.yaml"
                    )
        write_info(self.out, {**settings, "state": "training"})

    def _loop(self, windows: Windows, watched: Windows | None, order: Order, progress: Callable[..., None]) -> str:
        config = self.training
        total = planned_steps(config, order.batches)
        start = time.monotonic() - self.state["seconds"]
        with StopRequest() as stop:
            for batch in self._batches(order, total):
                losses, norm = self._step(windows.gather(batch))
                self.state["step"] += 1
                step = self.state["step"]
                self.state["seconds"] = time.monotonic() - start
                spent = config.budget_minutes and self.state["seconds"] >= 60 * config.budget_minutes
                last = step == total or bool(spent) or stop.requested
                if step % config.log_every == 0 or step == 1 or last:
                    self._log(losses, norm, watched)
                progress(1, note=f"L_R {losses['reconstruction']:.4f} a window")
                if step % config.checkpoint_every == 0 or last:
                    self._save()
                if spent:
                    return "out of budget"
                if stop.requested and step < total:
                    self._mark("interrupted")
                    raise Interrupted(
                        f"stopped after step {step}; go on with the same command and --resume ({self.out})"
                    )
        if self.state["step"] == 0:
            self._save()
        return "finished"

    def _batches(self, order: Order, total: int) -> Iterator[torch.Tensor]:
        step = self.state["step"]
        while step < total:
            epoch, first = divmod(step, order.batches)
            for batch in order.epoch(epoch)[first : first + total - step]:
                yield batch
                step += 1

    def _step(self, batch: torch.Tensor) -> tuple[dict[str, float], float]:
        """One optimiser step on ``batch (A, B, T, J)``; returns losses per window and the gradient's norm."""
        self.optimiser.zero_grad(set_to_none=True)
        losses = self.model.loss(self.model(batch))
        losses.total.backward()
        norm = gradient_norm(self.model.parameters())
        total = losses.total.item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            # The weights are still those of the last step, which was good.
            self._save()
            self._mark("diverged")
            raise DivergenceError(
                f"loss or gradient is not finite at step {self.state['step'] + 1} (loss {total}, gradient norm "
                f"{norm}); the weights before it are in {self.out}; lower training.learning_rate or set training.clip"
            )
        clip_gradients(self.model.parameters(), self.training.clip or 0.0)
        self.optimiser.step()
        size = batch.shape[1]
        return {
            "total": total,
            "reconstruction": losses.reconstruction.item() / size,
            "attention": losses.attention.item() / size,
            "regularisation": losses.regularisation.item(),
        }, norm

    @torch.no_grad()
    def _log(self, losses: dict[str, float], norm: float, watched: Windows | None) -> None:
        step = self.state["step"]
        values = {**losses, "gradient_norm": norm, "seconds": round(self.state["seconds"], 3)}
        if watched is not None and len(watched):
            chosen = torch.linspace(0, len(watched) - 1, min(len(watched), VALIDATION_WINDOWS)).long()
            output = self.model(watched.gather(chosen))
            values["validation"] = self.model.loss(output).reconstruction.item() / len(chosen)
            if output.alignment is not None:
                self.monitor.draw_alignment(step, output.alignment.mean(dim=1))
        self.monitor.log(step, **values)

    def _save(self) -> None:
        self.state["history"] = self.monitor.history
        save_checkpoint(self.out, self.model, self.optimiser, self.state, self.training.keep_checkpoints)
        save_weights(self.out / WEIGHTS, self.model.state_dict())
        self.monitor.save()

    def _mark(self, state: str) -> None:
        write_info(self.out, {**self._settings(), "state": state, "step": self.state["step"]})


def planned_steps(config: TrainingConfig, batches: int) -> int:
    """Optimiser steps of a whole training with ``batches`` steps an epoch, time budget aside."""
    steps = config.epochs * batches
    return min(steps, config.max_steps) if config.max_steps else steps


def _fit(model: SGELAConfig, joints: int, frames: int) -> SGELAConfig:
    values = {**asdict(model), "joints": joints, "frames": frames}
    return SGELAConfig(**values)


def _choose_device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device is cuda but torch sees no CUDA device; use --training.device cpu")
    return torch.device(wanted)


def _notes(short: tuple[str, ...], skipped: int) -> list[str]:
    notes = []
    if short:
        notes.append(f"{len(short)} recordings are too short for one window, such as {short[0]}")
    if skipped:
        notes.append(f"{skipped} windows with a lost joint were left out")
    return notes
