"""Pre-training and fine-tuning of SelfGait on silhouettes."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sgela_fast.checkpoints.selfgait_run import SelfGaitRun, load_selfgait
from sgela_fast.errors import ConfigError
from sgela_fast.models.device import choose_device
from sgela_fast.models.selfgait import build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.config import RELEASED_CLIPS, ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.fingerprint import fingerprint
from sgela_fast.stopping import StopRequest
from sgela_fast.training.claim import Section, check_free, check_same, claimed
from sgela_fast.training.journal import Journal
from sgela_fast.training.launch import this_process
from sgela_fast.training.monitor import require_tensorboard
from sgela_fast.training.selfgait.batches import Batch, Batches
from sgela_fast.training.selfgait.config import SECTION, SelfGaitTrainingConfig
from sgela_fast.training.selfgait.step import SelfGaitStepper, build_selfgait_optimiser, scale_embeddings

LAYOUT = "silhouettes"
SECTIONS = {
    "model": Section("selfgait", SelfGaitConfig),
    "window": Section("clips", ClipConfig),
    "training": Section(SECTION, SelfGaitTrainingConfig),
}


@dataclass(frozen=True)
class SelfGaitResult:
    """What training ended with.

    Attributes:
        run: the run folder.
        stage: ``pretrain`` or ``finetune``.
        state: ``finished`` or ``out of budget``.
        step: optimiser steps taken, resumed parts included.
        values: of the last log entry: ``total`` (the loss), ``spread`` and the stage's others.
        notes: one sentence each on what was left out of training.
    """

    run: Path
    stage: str
    state: str
    step: int
    values: dict[str, float]
    notes: list[str]


def train_selfgait(
    silhouettes: str | Path | SilhouetteSet,
    out: str | Path,
    model: SelfGaitConfig | None = None,
    clips: ClipConfig | None = None,
    training: SelfGaitTrainingConfig | None = None,
    *,
    start: str | Path | None = None,
    resume: bool = False,
    progress: Callable[..., None] | None = None,
    announce: Callable[[str], None] | None = None,
    planned: Callable[[int, int], None] | None = None,
) -> SelfGaitResult:
    """Train SelfGait and leave it in the run folder ``out``.

    Args:
        silhouettes: a packed set or its folder.
        out: run folder to make.
        model: what the model is; frames, height and width follow ``clips``.
        clips: how sequences become clips; the released variant has its own ``redraw`` and ``flip`` unless one is given.
        training: how to train.
        start: run folder whose weights, model and clips to begin with: pre-training to be fine-tuned. Without it,
            weights are fresh.
        resume: go on from the newest checkpoint in ``out``; on the CPU the result is bit-equal to an uninterrupted
            run with the same number of threads.
        progress: called as ``progress(steps, note=...)``.
        announce: called with one-line remarks (device, backend, sequences).
        planned: called once as ``planned(done, total)`` with the steps taken by earlier parts and those of the whole.

    Raises:
        DataError: the set has too few persons or sequences to train on.
        ConfigError: settings contradict each other, the set or ``start``, or several processes were started.
        OutputError: ``out`` holds a run already, another process trains into it, or it cannot be written.
        CheckpointError: nothing to resume from or to start with, or it was made with other settings.
        DivergenceError: a loss, gradient or weight is not finite; the last good weights are kept.
        Interrupted: stopped by the user; resume with ``resume=True``.
    """
    if this_process().size > 1:
        raise ConfigError("several processes were started but SelfGait trains in one; start it without torchrun")
    job = _Job(silhouettes, Path(out), model, clips, training or SelfGaitTrainingConfig(), start)
    with ExitStack() as claim:
        job.prepare(resume, announce or (lambda line: None), claim)
        (planned or (lambda done, total: None))(job.journal.step, job.training.max_steps)
        ended = job.loop(progress or (lambda units=1, note="": None))
        job.journal.finish(ended, job.clips)
    return SelfGaitResult(
        run=job.out,
        stage=job.training.stage,
        state=ended,
        step=job.journal.step,
        values={name: value for name, value in job.journal.monitor.history[-1].items() if name != "step"},
        notes=job.batches.notes,
    )


class _Job:
    def __init__(
        self,
        silhouettes: str | Path | SilhouetteSet,
        out: Path,
        model: SelfGaitConfig | None,
        clips: ClipConfig | None,
        training: SelfGaitTrainingConfig,
        start: str | Path | None,
    ) -> None:
        self.device = choose_device(training.device, f"{SECTION}.device")
        self.silhouettes = silhouettes if isinstance(silhouettes, SilhouetteSet) else SilhouetteSet.open(silhouettes)
        self.out = out
        self.start = None if start is None else load_selfgait(start, "reference")
        self.clips, self.config = fit_selfgait(model, clips, self.start)
        usual: Any = "persons" if training.stage == "finetune" or self.config.variant == "released" else "sequences"
        self.training = replace(training, sampling=training.sampling or usual)

    def prepare(self, resume: bool, announce: Callable[[str], None], claim: ExitStack) -> None:
        """Everything that can be at fault with the input; the folder is claimed last."""
        config, settings = self.training, self.settings()
        if resume:
            check_same(self.out, settings, SECTIONS)
        else:
            check_free(self.out)
        if config.tensorboard:
            require_tensorboard()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.model = build_selfgait(self.config, config.backend, seed=config.seed, device=self.device).train()
        if self.start is not None:
            self.model.load_state_dict(self.start.model.state_dict())
        choice = self.model.choice
        announce(f"device: {self.device} ({config.device}); backend {choice.name} ({choice.reason})")
        self.batches = Batches(self.silhouettes, self.clips, config, self.device)
        announce(self.batches.description)
        if config.stage == "finetune" and config.start_distance and not resume:
            scale_embeddings(self.model, self.batches.draw(0).views[0], config.start_distance)
        self.optimiser = build_selfgait_optimiser(self.model, config)
        self.journal = Journal(
            self.out, settings, config, self.model, self.optimiser, mend=f"lower {SECTION}.learning_rate"
        )
        if resume:
            self.journal.resume()
        further = {"system": "selfgait", **({} if self.start is None else {"from": str(self.start.path)})}
        claim.enter_context(claimed(self.out, settings, SECTIONS, further))
        self.journal.open(config.max_steps)
        claim.callback(self.journal.close)

    def settings(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        start = self.start
        return {
            "system": "selfgait",
            "model": asdict(self.config),
            "window": asdict(self.clips),
            "training": asdict(self.training),
            "layout": LAYOUT,
            "archive": {"path": self.silhouettes.name, "fingerprint": fingerprint(self.silhouettes.sequences)},
            "started_from": None if start is None else {"path": str(start.path), "model_hash": start.model_hash},
            "torch": torch.__version__,
        }

    def loop(self, progress: Callable[..., None]) -> str:
        """Take the steps that are left; returns the state that the run ends in."""
        journal, total = self.journal, self.training.max_steps
        stepper = SelfGaitStepper(self.model, self.optimiser, self.training)
        journal.begin()
        with StopRequest() as stop:
            while journal.step < total:
                if journal.out_of_budget:
                    return "out of budget"
                values = self.step(stepper, self.batches.draw(journal.step))
                journal.advance()
                progress(1, note=f"loss {values['total']:.4f}, spread {values['spread']:.3f}")
                stopping = stop.requested and journal.step < total
                last = journal.step == total or journal.out_of_budget or stopping
                if journal.wants_entry(last):
                    journal.log(values)
                if journal.wants_checkpoint(last):
                    journal.save()
                if stopping:
                    journal.interrupt()
        return "finished"

    def step(self, stepper: SelfGaitStepper, batch: Batch) -> dict[str, float]:
        """One optimiser step; the values of its batch."""
        try:
            values = {name: float(value) for name, value in stepper.backward(batch).items()}
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{self.device} has too little memory for batches of {self.training.batch} clips; lower "
                f"{SECTION}.persons or {SECTION}.clips"
            ) from error
        if not all(map(math.isfinite, values.values())):
            self.journal.stop_at_bad_loss(values["total"], values["gradient_norm"])
        for group in self.optimiser.param_groups:
            group["lr"] = self.training.rate(self.journal.step)
        stepper.update()
        return values


def fit_selfgait(
    model: SelfGaitConfig | None, clips: ClipConfig | None, start: SelfGaitRun | None = None
) -> tuple[ClipConfig, SelfGaitConfig]:
    """Clips and model that fit each other: frames, height and width are those of the clips.

    Args:
        model: settings, ``None`` for the default ones.
        clips: settings, ``None`` for the default ones.
        start: a run whose settings hold instead. Clips may be given beside it to be changed otherwise (flips, turns and
            so on), of the size that its model reads.

    Raises:
        ConfigError: the model's sizes say something else than the clips, or other ones are given beside ``start``.
    """
    if start is not None:
        if model is not None and model not in (start.model_config, SelfGaitConfig()):
            raise ConfigError(
                f"selfgait settings are those of {start.path}, whose weights training starts from; leave them out"
            )
        if clips is None or clips == ClipConfig():
            clips = start.clips
        given, wanted = (
            f"{own.frames} frames of {' x '.join(map(str, own.size))} pixels" for own in (clips, start.clips)
        )
        if given != wanted:
            raise ConfigError(
                f"clips of {given} do not fit {start.path}, whose weights training starts from and whose clips have "
                f"{wanted}; give the same clips.frames, clips.crop and clips.shrink"
            )
        return clips, start.model_config
    model = model or SelfGaitConfig()
    clips = clips or ClipConfig()
    usual = ClipConfig()
    if model.variant == "released" and (clips.redraw, clips.flip) == (usual.redraw, usual.flip):
        clips = replace(clips, redraw=RELEASED_CLIPS.redraw, flip=RELEASED_CLIPS.flip)
    if clips.apart and model.objective == "future":
        raise ConfigError(
            "selfgait.objective is future, which predicts a clip's own last frame, but clips.apart cuts the other view "
            "elsewhere; set selfgait.objective clip or leave clips.apart off"
        )
    sizes = {"frames": clips.frames, "height": clips.size[0], "width": clips.size[1]}
    for name, value in sizes.items():
        if getattr(model, name) not in (value, getattr(SelfGaitConfig, name)):
            raise ConfigError(
                f"selfgait.{name} is {getattr(model, name)} but clips have {value}; leave it out and set clips.frames, "
                "clips.crop and clips.shrink"
            )
    height, width = clips.size
    return clips, replace(model, frames=clips.frames, height=height, width=width)
