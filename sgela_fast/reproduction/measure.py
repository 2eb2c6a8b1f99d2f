"""Carrying out the work of a plan: encoding, evaluating, looking into encoders, counting."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.baselines.registry import BASELINES
from sgela_fast.baselines.run import run_baseline
from sgela_fast.encoding.attention import mean_attention
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.store import Store
from sgela_fast.evaluation.config import EvaluationConfig, Selection
from sgela_fast.evaluation.leakage import check_sides
from sgela_fast.evaluation.probes import Probes
from sgela_fast.evaluation.recognition_protocol import RecognitionRun
from sgela_fast.evaluation.results import Figures, Outcome
from sgela_fast.evaluation.retrieval_protocol import run_retrieval
from sgela_fast.evaluation.sides import Sides, divide
from sgela_fast.models.complexity import count_parameters, window_flops
from sgela_fast.models.device import choose_device
from sgela_fast.reproduction.cells import EncoderSpec, StoreSpec, Work
from sgela_fast.reproduction.config import ReproductionConfig
from sgela_fast.reproduction.datasets import Condition, DataSet
from sgela_fast.reproduction.encoders import Encoders
from sgela_fast.reproduction.results import FIGURES
from sgela_fast.skeletons.config import WindowConfig

STORES = "stores"
LOOKS_AN_EPOCH = 4  # at the test set, under best-on-test, where the released code's 50 steps are less than that
BEST_ON_TEST_EPOCHS = 40  # nothing stops it early, and later epochs only give the test set more to choose from

Note = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """What a work came to; the entries are those of :class:`sgela_fast.reproduction.results.CellResult`."""

    persons: int = 0
    figures: dict[str, float | None] = field(default_factory=dict)
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    recordings: dict[str, float | None] = field(default_factory=dict)
    chance: float | None = None
    training: dict[str, Any] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    probes: Probes | None = None
    notes: tuple[str, ...] = ()


class Workshop:
    """Does the work.

    Args:
        out: folder of the reproduction.
        config: of the reproduction.
        data: the data sets.
        encoders: where the encoders are.
        note: called with remarks on how far it is.
    """

    def __init__(
        self,
        out: Path,
        config: ReproductionConfig,
        data: Sequence[DataSet],
        encoders: Encoders,
        note: Note = lambda remark: None,
    ) -> None:
        self.out, self.config, self.encoders, self.note = out, config, encoders, note
        self.data = {item.name: item for item in data}

    def store_path(self, store: StoreSpec) -> Path:
        """Folder of encodings."""
        return self.out / STORES / store.name

    def encode(self, store: StoreSpec) -> None:
        """Make encodings, or finish them."""
        config = replace(self.config.encoding, feature=store.feature)
        run = self.encoders.path(store.encoder)
        encoder = Encoder.load(run, config.backend, config.device, precision=config.precision)
        windows = f"encoding {store.name}"
        encode(
            self.data[store.data].archive,
            encoder,
            self.store_path(store),
            config,
            resume=True,
            progress=lambda units=1, *, note="": self.note(f"{windows}, {note}"),
        )

    def measure(self, work: Work) -> dict[str | None, Measured]:
        """Do one work; its encoder and its store must be there.

        Returns:
            What it came to, by the protocol of the cells that show it (``None`` for those that are no Re-ID figures).
        """
        if work.kind == "recognition":
            return {"C": self._recognition(work)}
        if work.kind == "retrieval":
            return {"G": self._retrieval(work)}
        if work.kind == "baseline":
            return self._baseline(work)
        if work.kind == "attention":
            return {None: self._attention(work)}
        if work.kind == "curve":
            return {None: self._curve(work)}
        return {None: self._size()}

    def condition(self, work: Work) -> Condition:
        """What ``work`` tests."""
        train = self.config.training.train_value
        for data in self.data.values():
            for condition in data.conditions(work.split, train):
                if condition.name == work.condition:
                    return condition
        raise AssertionError(f"{work.name} tests a condition of no data set")

    def _evaluation(self, condition: Condition) -> EvaluationConfig:
        training = self.config.training
        return replace(
            self.config.evaluation,
            splits=(condition.split,),
            train_value=training.train_value,
            test_value=condition.test_value,
        )

    def _sides(self, work: Work) -> tuple[Sides, EvaluationConfig]:
        assert work.store is not None
        condition = self.condition(work)
        config = self._evaluation(condition)
        return divide(Store(self.store_path(work.store)), condition.split, config), config

    def _recognition(self, work: Work) -> Measured:
        sides, config = self._sides(work)
        recognition = replace(config.recognition, selection=_selection(work), seeds=(work.seed,))
        if work.selection == "best-on-test":
            rows = len(sides.train) * int(sides.train.frames[0])
            looks = math.ceil(rows / recognition.batch / LOOKS_AN_EPOCH)
            recognition = replace(
                recognition,
                evaluate_every=max(recognition.evaluate_every, looks),
                max_epochs=min(recognition.max_epochs or BEST_ON_TEST_EPOCHS, BEST_ON_TEST_EPOCHS),
            )
        config = replace(config, protocol="C", recognition=recognition)
        device = choose_device(config.device, "evaluation.device")
        run = RecognitionRun(sides, work.split, config, device, lambda remark: self.note(f"{work.name}, {remark}"))
        outcome = run.outcome(work.seed)
        probes = Probes.of(run.test_side, sides.persons, outcome)
        return self._measured(work, outcome, probes, check_sides(sides).sentences())

    def _retrieval(self, work: Work) -> Measured:
        sides, config = self._sides(work)
        device = choose_device(config.device, "evaluation.device")
        done = 0

        def advance(probes: int) -> None:
            nonlocal done
            done += probes
            self.note(f"{work.name}, {done:,} of {len(sides.test):,} probe windows")

        outcome, _ = run_retrieval(sides, work.split, replace(config, protocol="G"), device, advance)
        probes = Probes.of(sides.test, sides.persons, outcome)
        return self._measured(work, outcome, probes, check_sides(sides).sentences())

    def _measured(self, work: Work, outcome: Outcome, probes: Probes, leaks: Sequence[str] = ()) -> Measured:
        encoder = work.needs
        notes = [
            *outcome.notes,
            *leaks,
            *(f"{count:,} {reason} left out" for reason, count in outcome.left_out.items()),
        ]
        notes += [
            f"recognition network: {name.replace('_', ' ')} {outcome.details[name]:.4g}"
            for name in ("epochs", "best_step", "held_out_rank1")
            if name in outcome.details
        ]
        return Measured(
            persons=outcome.persons,
            figures=_per_cent(outcome.windows),
            interval={
                FIGURES[name]: (100 * low, 100 * high)
                for name, (low, high) in outcome.windows.intervals.items()
                if name in FIGURES
            },
            recordings=_per_cent(outcome.recordings),
            chance=100 * outcome.chance,
            training=self.encoders.summary(encoder) if encoder else None,
            probes=probes,
            notes=tuple(notes),
        )

    def _baseline(self, work: Work) -> dict[str | None, Measured]:
        """Both protocols of a baseline; that of best-on-test alone where the test set chooses."""
        condition = self.condition(work)
        config = self._evaluation(condition)
        honest = work.selection != "best-on-test"
        recognition = replace(config.recognition, selection=_selection(work))
        outcomes = run_baseline(
            work.baseline,
            condition.data.archive,
            split=work.split,
            window=self._window(),
            evaluation=replace(config, protocol="both" if honest else "C", recognition=recognition),
            config=self.config.baselines,
            seed=work.seed,
            note=lambda remark: self.note(f"{work.name}, {remark}"),
        )
        found: dict[str | None, Measured] = {}
        for outcome in outcomes:
            assert outcome.probes is not None
            measured = self._measured(work, outcome, outcome.probes)
            notes = (BASELINES[work.baseline].note, outcome.selection, *measured.notes)
            found[outcome.protocol] = replace(measured, notes=notes)
        return found

    def _window(self) -> WindowConfig:
        """How the stores' windows are cut."""
        return replace(self.config.window, stride=self.config.encoding.stride or self.config.window.stride)

    def _attention(self, work: Work) -> Measured:
        """Mean attention matrices over test windows."""
        spec = _encoder(work)
        condition = self.condition(work)
        encoder = Encoder.load(self.encoders.path(spec), self.config.encoding.backend, self.config.encoding.device)
        archive = condition.data.archive
        rows = archive.select(condition.split, condition.test_value)
        self.note(work.name)
        found = mean_attention(encoder, (archive.frames_of(row) for row in rows))
        return Measured(
            training=self.encoders.summary(spec),
            values={
                "attention": found.matrices.round(6).tolist(),
                "axes": ["x", "y", "z"],
                "windows": found.windows,
                "locality": _locality(found.matrices, encoder.model.config.reverse),
            },
        )

    def _curve(self, work: Work) -> Measured:
        spec = _encoder(work)
        training = self.encoders.summary(spec)
        assert training is not None
        step, reconstruction, attention, held_out = training["curve"][-1]
        last = {"step": step, "reconstruction": reconstruction, "attention": attention, "held_out": held_out}
        return Measured(training=training, values=last)

    def _size(self) -> Measured:
        """Parameters and operations, counted by the model itself."""
        spec = EncoderSpec(next(iter(self.data)), self.config.splits[0], 0, self.config.window.frames)
        model, _, _ = self.encoders.settings(spec)
        parameters = count_parameters(model)
        return Measured(
            values={
                "joints": model.joints,
                "frames": model.frames,
                "parameters": parameters.live.total,
                "parameters_as_released": parameters.released,
                "encoder_parameters": parameters.live.encoder,
                "flops_of_a_window": window_flops(model).total,
                "flops_of_its_ages": window_flops(model, reconstruction=False).total,
                "parts": {"parameters": parameters.live.as_dict(), "flops": window_flops(model).as_dict()},
            }
        )


def _encoder(work: Work) -> EncoderSpec:
    assert work.encoder is not None
    return work.encoder


def _selection(work: Work) -> Selection:
    return "best-on-test" if work.selection == "best-on-test" else "validation"


def _per_cent(figures: Figures) -> dict[str, float | None]:
    named = figures.named()
    return {short: None if name not in named else 100 * named[name] for name, short in FIGURES.items()}


def _locality(matrices: Any, reverse: bool) -> list[float]:
    """Share of each axis's attention that lies at most one frame away from where the target frame was seen."""
    frames = matrices.shape[-1]
    steps = np.arange(frames)
    centres = frames - 1 - steps if reverse else steps
    near = np.abs(np.arange(frames)[None] - centres[:, None]) <= 1
    return [float(share) for share in (matrices * near).sum(axis=(-2, -1)) / matrices.sum(axis=(-2, -1))]


def timed(measure: Callable[[], Any]) -> tuple[Any, float]:
    """Result of a call and the seconds that it took."""
    begun = time.monotonic()
    return measure(), time.monotonic() - begun
