"""The encoders of a reproduction: what each is, how many steps all of them take, and which exist already."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sgela_fast.atomic import make_folder
from sgela_fast.checkpoints.history import HISTORY, read_history
from sgela_fast.checkpoints.run_folder import INDEX, WEIGHTS, read_info, write_info, write_run
from sgela_fast.errors import CheckpointError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.device import choose_device
from sgela_fast.models.sgela import build_model
from sgela_fast.reproduction.cells import EncoderSpec
from sgela_fast.reproduction.config import ReproductionConfig
from sgela_fast.reproduction.datasets import DataSet
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.batches import split_rows
from sgela_fast.training.checkpoint import list_checkpoints
from sgela_fast.training.claim import MAY_CHANGE, fit_model
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.trainer import TrainingResult, train

FOLDER = "encoders"
FINISHED = ("finished", "out of budget")
CURVE_POINTS = 200
# Settings that leave an encoder comparable with others; those of a resumed run and the precision of its arithmetic.
_ASIDE = (*MAY_CHANGE, "precision")
_TIMED_STEPS = 3


class Encoders:
    """Where the encoders are and what they are made of.

    Args:
        out: folder of the reproduction.
        config: of the reproduction.
        data: the data sets.
        elsewhere: folders with runs that may be used.
        steps: of all encoders, once decided; 0 for the epochs of the training settings.
    """

    def __init__(
        self, out: Path, config: ReproductionConfig, data: Sequence[DataSet], elsewhere: Sequence[str], steps: int = 0
    ) -> None:
        self.folder, self.config, self.steps = out / FOLDER, config, steps
        self.data = {item.name: item for item in data}
        self.elsewhere = [Path(path) for path in elsewhere]
        self._windows: dict[tuple[str, str, int, int], int] = {}

    def path(self, spec: EncoderSpec) -> Path:
        """Its run folder."""
        return self.folder / spec.name

    def settings(self, spec: EncoderSpec) -> tuple[SGELAConfig, WindowConfig, TrainingConfig]:
        """Model, window and training settings."""
        window = replace(self.config.window, frames=spec.frames)
        layout = self.data[spec.data].archive.layout
        model = replace(self.config.model, attention=spec.attention, reverse=spec.reverse, mask_window=spec.mask_window)
        training = replace(self.config.training, split=spec.split, seed=spec.seed)
        if self.steps:
            # So many steps, be the data set large or small; one more epoch, for windows with a lost joint are left out.
            epochs = max(training.epochs, math.ceil(self.steps / self.steps_an_epoch(spec)) + 1)
            training = replace(training, max_steps=self.steps, epochs=epochs)
        return fit_model(model, len(layout), spec.frames, layout.name), window, training

    def windows(self, spec: EncoderSpec) -> int:
        """Windows that it is trained on, those with a lost joint included."""
        key = (spec.data, spec.split, spec.seed, spec.frames)
        if key not in self._windows:
            window = replace(self.config.window, frames=spec.frames)
            training = replace(self.config.training, split=spec.split, seed=spec.seed)
            rows, _ = split_rows(self.data[spec.data].archive, training)
            self._windows[key] = sum(len(window.starts(row.frames)) for row in rows)
        return self._windows[key]

    def steps_an_epoch(self, spec: EncoderSpec) -> int:
        """Steps of a pass over the training windows, a last incomplete one aside."""
        return max(1, self.windows(spec) // self.config.training.windows_a_step)

    def target(self, spec: EncoderSpec) -> int:
        """Steps of its whole training."""
        return self.steps or self.config.training.epochs * self.steps_an_epoch(spec)

    def taken(self, spec: EncoderSpec) -> int:
        """Steps that an interrupted training has taken."""
        checkpoints = list_checkpoints(self.path(spec))
        return int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0

    def ready(self, spec: EncoderSpec) -> bool:
        """Whether it can be encoded with."""
        if not (self.path(spec) / INDEX).exists():
            return False
        info = read_info(self.path(spec))
        if not spec.trained:
            return (self.path(spec) / WEIGHTS).exists()
        if self.steps:
            return info.get("state") in FINISHED and info.get("step") == self.steps
        return info.get("state") == "finished"

    def adopt(self, specs: Iterable[EncoderSpec]) -> list[str]:
        """Copy the weights of fitting runs found elsewhere; returns a remark for each run that was taken."""
        remarks = []
        missing = [spec for spec in specs if spec.trained and not self.ready(spec) and not self.taken(spec)]
        for found, info in self.found() if missing else []:
            for spec in missing:
                if info["step"] == self.target(spec) and not self.ready(spec) and self._fits(spec, info):
                    self._copy(found, info, spec)
                    remarks.append(f"{spec.name}: taken from {found} ({info['step']:,} steps)")
        return remarks

    def is_elsewhere(self, spec: EncoderSpec) -> bool:
        """Whether a fitting run was found elsewhere."""
        return spec.trained and any(
            info["step"] == self.target(spec) and self._fits(spec, info) for _, info in self.found()
        )

    def steps_elsewhere(self, specs: Iterable[EncoderSpec]) -> int:
        """Steps that most fitting runs found elsewhere have taken; 0 if none fits."""
        wanted = [spec for spec in specs if spec.trained]
        counts = Counter(info["step"] for _, info in self.found() if any(self._fits(spec, info) for spec in wanted))
        return max(counts, key=lambda steps: (counts[steps], steps), default=0)

    def found(self) -> list[tuple[Path, dict[str, Any]]]:
        """Finished runs below the folders that were named, and what their ``run.json`` says."""
        runs = []
        for place in self.elsewhere:
            for index in sorted({place / INDEX, *place.glob(f"*/{INDEX}"), *place.glob(f"*/*/{INDEX}")}):
                try:
                    info = read_info(index.parent)
                except CheckpointError:
                    continue
                if info.get("state") in FINISHED and info.get("step") and "training" in info and "archive" in info:
                    runs.append((index.parent, info))
        return runs

    def train(
        self, spec: EncoderSpec, budget_seconds: float | None, announce: Callable[[str], None], progress: Any = None
    ) -> TrainingResult | None:
        """Train it, from its newest checkpoint on if it has one; ``None`` for one that is not trained.

        Args:
            spec: the encoder.
            budget_seconds: training ends after so many, unfinished; it is gone on with when called again.
            announce: called with one-line remarks.
            progress: called with steps.
        """
        model, window, training = self.settings(spec)
        path, archive = self.path(spec), self.data[spec.data].archive
        if not spec.trained:
            fresh = build_model(
                model, training.backend, seed=spec.seed, device=choose_device(training.device, "device")
            )
            write_run(path, fresh, window=window, layout=archive.layout.name, info={"state": "untrained", "step": 0})
            return None
        resume = self.taken(spec) > 0 and (path / INDEX).exists()
        if not resume:
            shutil.rmtree(path, ignore_errors=True)
        if budget_seconds is not None:
            minutes = max(budget_seconds, 1.0) / 60 + (self.history_seconds(spec) / 60 if resume else 0.0)
            training = replace(training, budget_minutes=minutes)
        return train(
            archive,
            path,
            model,
            window,
            training,
            resume=resume,
            progress=progress,
            announce=announce,
        )

    def history_seconds(self, spec: EncoderSpec) -> float:
        """Seconds that were spent training it."""
        if not (self.path(spec) / HISTORY).exists():
            return 0.0
        history = read_history(self.path(spec))
        return float(history.seconds[-1]) if len(history) else 0.0

    def summary(self, spec: EncoderSpec) -> dict[str, Any] | None:
        """For :attr:`sgela_fast.reproduction.results.CellResult.training`."""
        if not spec.trained:
            return None
        info = read_info(self.path(spec))
        logged = (self.path(spec) / HISTORY).exists()
        return {
            "steps": info["step"],
            "epochs": round(info["step"] / self.steps_an_epoch(spec), 3),
            "seconds": float(info.get("seconds") or self.history_seconds(spec)),
            "curve": read_history(self.path(spec)).curve(CURVE_POINTS) if logged else [],
            **({"adopted_from": info["adopted_from"]} if "adopted_from" in info else {}),
        }

    @cached_property
    def step_seconds(self) -> float:
        """Seconds of a training step on this machine, measured once (forward and backward, no optimiser)."""
        spec = EncoderSpec(next(iter(self.data)), "", 0, self.config.window.frames)
        model, _, training = self.settings(replace(spec, split=self.config.splits[0]))
        device = choose_device(training.device, "training.device")
        built = build_model(model, training.backend, training.precision, seed=0, device=device).train()
        shape = (model.axes, training.batch, model.frames, model.joints)
        batch = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
        seconds = []
        for _ in range(_TIMED_STEPS + 1):
            begun = time.perf_counter()
            built.loss(built(batch)).total.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begun)
        return min(seconds[1:]) * training.accumulate

    def _fits(self, spec: EncoderSpec, info: dict[str, Any]) -> bool:
        """Whether a run is what ``spec`` asks for, the number of its steps aside."""
        model, window, training = self.settings(spec)
        mine = {
            "model": asdict(model),
            "window": {**asdict(window), "stride": window.step},
            "training": {name: value for name, value in asdict(training).items() if name not in _ASIDE},
        }
        try:
            found_window = WindowConfig(**info["window"])
            theirs = {
                "model": asdict(SGELAConfig(**info["model"])),
                "window": {**asdict(found_window), "stride": found_window.step},
                "training": {
                    name: value
                    for name, value in asdict(TrainingConfig(**info["training"])).items()
                    if name not in _ASIDE
                },
            }
        except (TypeError, ValueError):
            return False
        same_archive = info["archive"].get("fingerprint") == self.data[spec.data].archive.fingerprint
        return same_archive and mine == theirs

    def _copy(self, found: Path, info: dict[str, Any], spec: EncoderSpec) -> None:
        path = make_folder(self.path(spec))
        for name in (WEIGHTS, HISTORY, "config.yaml"):
            if (found / name).exists():
                shutil.copy2(found / name, path / name)
        write_info(path, {**info, "adopted_from": str(found)})
