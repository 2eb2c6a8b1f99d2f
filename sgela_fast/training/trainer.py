"""Self-supervised training of the gait encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sgela_fast.errors import ConfigError, DataError, DivergenceError, Interrupted, SgelaError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.device import choose_device
from sgela_fast.models.sgela import SGELA, build_model
from sgela_fast.skeletons.archive import Archive, Row
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.stopping import StopRequest
from sgela_fast.training.batches import Order, Windows, load_windows, split_rows
from sgela_fast.training.claim import check_free, check_same, claimed, fit_model
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.journal import Journal
from sgela_fast.training.launch import this_process
from sgela_fast.training.monitor import require_tensorboard
from sgela_fast.training.optimiser import build_optimiser, build_scaler
from sgela_fast.training.ranks import SaidElsewhereError, check_shares, joined
from sgela_fast.training.step import Stepper

VALIDATION_WINDOWS = 1024


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
    planned: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train a gait encoder without labels and leave it in the run folder ``out``.

    Processes that ``torchrun`` started share each batch; the first one writes.

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
        planned: called once as ``planned(done, total)`` with the steps taken by earlier parts and those of the whole.

    Raises:
        DataError: the archive has no windows to train on, or lacks the split column.
        ConfigError: settings contradict each other or the archive.
        OutputError: ``out`` holds a run already, another process trains into it, or it cannot be written.
        CheckpointError: nothing to resume from, or it was made with other settings.
        DivergenceError: a loss or gradient is not finite; the last good weights are kept.
        PeerFailedError: started by ``torchrun``, and another process has ended.
        SaidElsewhereError: started by ``torchrun``, and another process raises the error.
        Interrupted: stopped by the user; resume with ``resume=True``.
    """
    job = _Job(archive, Path(out), model or SGELAConfig(), window or WindowConfig(), training or TrainingConfig())
    return job.run(
        resume,
        progress or (lambda units=1, note="": None),
        announce or (lambda line: None),
        planned or (lambda done, total: None),
    )


@dataclass(frozen=True)
class _Plan:
    windows: Windows
    watched: Windows | None
    order: Order
    total: int
    notes: list[str]


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
        layout = self.archive.layout
        self.config = fit_model(model, len(layout), window.frames, layout.name)
        self.device = choose_device(training.device, "training.device")
        check_shares(training.batch, this_process())

    def run(
        self,
        resume: bool,
        progress: Callable[..., None],
        announce: Callable[[str], None],
        planned: Callable[[int, int], None],
    ) -> TrainingResult:
        with joined(self.device) as self.ranks, ExitStack() as claim:
            if not self.ranks.leads:
                progress, announce, planned = (lambda *_, **__: None,) * 3
            error: SgelaError | None = None
            plan: _Plan | None = None
            try:
                plan = self._prepare(resume, announce, claim)
            except SgelaError as caught:
                error = caught
            # Before the first collective call: a process that finds a fault must not leave the others waiting.
            self.ranks.settle(error)
            assert plan is not None
            planned(self.journal.step, plan.total)
            self.stepper = Stepper(
                self.model, self.ranks.wrap(self.model), self.optimiser, self.scaler, self.training, self.ranks
            )
            try:
                ended = self._loop(plan, progress)
            except torch.OutOfMemoryError as caught:
                raise ConfigError(
                    f"{self.device} has too little memory for batches of {self.training.batch} windows; lower "
                    "training.batch and raise training.accumulate"
                ) from caught
            except (Interrupted, DivergenceError) as caught:
                if self.ranks.leads:
                    raise
                raise SaidElsewhereError(str(caught), caught.exit_code) from None
            if self.ranks.leads:
                self.journal.finish(ended, self.window)
        history = self.journal.monitor.history
        last = history[-1] if history else {}
        return TrainingResult(
            run=self.out,
            state=ended,
            step=self.journal.step,
            epochs=self.journal.step / plan.order.batches,
            reconstruction=last.get("reconstruction", math.nan),
            attention=last.get("attention", math.nan),
            validation=last.get("validation"),
            notes=plan.notes,
        )

    def _prepare(self, resume: bool, announce: Callable[[str], None], claim: ExitStack) -> _Plan:
        """Everything that can be at fault with the input; the folder is claimed last."""
        config, ranks = self.training, self.ranks
        settings = self._settings()
        if resume:
            check_same(self.out, settings)
        elif ranks.leads:
            check_free(self.out)
        if config.tensorboard:
            require_tensorboard()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = ranks.place(self.device)
        self.model = build_model(
            self.config, config.backend, config.precision, seed=config.seed, device=self.device
        ).train()
        announce(_describe(self.device, self.model, config, ranks.size))

        rows, aside = split_rows(self.archive, config)
        windows, index = load_windows(self.archive, rows, self.window, self.device, config.memory_gb)
        notes = _notes(index.short_recordings, index.skipped_windows)
        watched = self._watched(aside, notes)
        order = Order(len(windows), self.config.axes, config)
        announce(
            f"{len(rows)} recordings, {len(windows):,} windows, {order.batches:,} steps an epoch; "
            f"{len(aside)} recordings kept aside to watch the loss"
            + ("; frames in a temporary file" if windows.in_file else "")
        )
        self.optimiser = build_optimiser(self.model, config)
        self.scaler = build_scaler(self.device, config.precision)
        self.journal = Journal(
            self.out,
            settings,
            config,
            self.model,
            self.optimiser,
            self.scaler,
            mend="lower training.learning_rate or set training.clip",
            leads=ranks.leads,
        )
        if resume:
            self.journal.resume()
        plan = _Plan(windows, watched, order, planned_steps(config, order.batches), notes)
        if ranks.leads:
            claim.enter_context(claimed(self.out, settings))
        self.journal.open(plan.total)
        claim.callback(self.journal.close)
        return plan

    def _settings(self) -> dict[str, Any]:
        return {
            "model": asdict(self.config),
            "window": asdict(self.window),
            "training": asdict(self.training),
            "layout": self.archive.layout.name,
            "archive": {"path": str(self.archive.path), "fingerprint": self.archive.fingerprint},
            "torch": torch.__version__,
        }

    def _watched(self, aside: list[Row], notes: list[str]) -> Windows | None:
        if not aside:
            return None
        try:
            return load_windows(self.archive, aside, self.window, self.device)[0]
        except DataError:
            notes.append(f"the {len(aside)} recordings kept aside hold no whole window, so nothing watches the loss")
            return None

    def _loop(self, plan: _Plan, progress: Callable[..., None]) -> str:
        journal = self.journal
        journal.begin()
        # All processes end together, by what the leading one's clock and anybody's signals say.
        spent = self._ending(stop=False)[1]
        with StopRequest() as stop:
            for batch in plan.windows.fetch(self._batches(plan.order, plan.total)):
                if spent:
                    return "out of budget"
                losses, norm = self._step(batch)
                journal.advance()
                progress(1, note=f"L_R {losses['reconstruction']:.4f} a window")
                # Asked once: a request that comes while saving is for the next step.
                stopping, spent = self._ending(stop.requested)
                stopping = stopping and journal.step < plan.total
                last = journal.step == plan.total or spent or stopping
                if journal.wants_entry(last):
                    journal.require_finite_weights()
                    if self.ranks.leads:
                        self._log(losses, norm, plan.watched)
                if journal.wants_checkpoint(last):
                    journal.save()
                if stopping:
                    journal.interrupt()
        return "finished"

    def _batches(self, order: Order, total: int) -> Iterator[torch.Tensor]:
        step = self.journal.step
        while step < total:
            epoch, first = divmod(step, order.batches)
            for batch in order.epoch(epoch)[first : first + total - step]:
                yield self.ranks.share(batch)
                step += 1

    def _ending(self, stop: bool) -> tuple[bool, bool]:
        """Whether any process is asked to stop, and whether the time is spent."""
        asked, spent = self.ranks.sum([float(stop), float(self.journal.out_of_budget)])
        return asked > 0, spent > 0

    def _step(self, batch: torch.Tensor) -> tuple[dict[str, float], float]:
        """One optimiser step on this process's windows ``(A, B, T, J)``; returns losses per window and the norm."""
        losses = self.stepper.backward(batch)
        if not self.stepper.may_update(losses):
            self.journal.stop_at_bad_loss(losses.total, losses.norm)
        self.stepper.update()
        size = self.training.windows_a_step
        return {
            "total": losses.total,
            "reconstruction": losses.reconstruction / size,
            "attention": losses.attention / size,
            "regularisation": losses.regularisation,
        }, losses.norm

    @torch.no_grad()
    def _log(self, losses: dict[str, float], norm: float, watched: Windows | None) -> None:
        values = dict(losses)
        if math.isfinite(norm):  # not in a step that only lowered the scale of the loss
            values["gradient_norm"] = norm
        if watched is not None and len(watched):
            chosen = torch.linspace(0, len(watched) - 1, min(len(watched), VALIDATION_WINDOWS)).long()
            output = self.model(watched.gather(chosen))
            values["validation"] = self.model.loss(output).reconstruction.item() / len(chosen)
            if output.alignment is not None:
                self.journal.monitor.draw_alignment(self.journal.step, output.alignment.mean(dim=1))
        self.journal.log(values)


def _describe(device: torch.device, model: SGELA, config: TrainingConfig, processes: int) -> str:
    line = f"device: {device} ({config.device}); backend {model.choice.name} ({model.choice.reason})"
    if config.precision != "fp32":
        line += f"; precision {config.precision}"
    if config.accumulate > 1 or processes > 1:
        shared = f" of {processes} processes" if processes > 1 else ""
        line += f"; {config.windows_a_step} windows a step{shared}"
    return line


def planned_steps(config: TrainingConfig, batches: int) -> int:
    """Optimiser steps of a whole training with ``batches`` steps an epoch, time budget aside."""
    steps = config.epochs * batches
    return min(steps, config.max_steps) if config.max_steps else steps


def _notes(short: tuple[str, ...], skipped: int) -> list[str]:
    notes = []
    if short:
        notes.append(f"{len(short)} recordings are too short for one window, such as {short[0]}")
    if skipped:
        notes.append(f"{skipped} windows with a lost joint were left out")
    return notes
