"""The job: an archive in, a baseline's figures out, in the evaluation's own terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgela_fast.baselines import features as feature_functions
from sgela_fast.baselines.classical_run import ClassicalRun
from sgela_fast.baselines.config import BaselineConfig, require_comparable
from sgela_fast.baselines.network_run import network_run, window_vectors
from sgela_fast.baselines.registry import Baseline, get_baseline
from sgela_fast.baselines.windows import ArchiveWindows, VectorStore
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.features import Features, Standardiser
from sgela_fast.evaluation.probes import Probes
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.retrieval_protocol import run_retrieval
from sgela_fast.evaluation.sides import Sides, divide
from sgela_fast.models.device import choose_device
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig

Note = Callable[[str], None]


def run_baseline(
    name: str,
    archive: Archive | str | Path,
    *,
    split: str,
    window: WindowConfig | None = None,
    evaluation: EvaluationConfig | None = None,
    config: BaselineConfig | None = None,
    seed: int = 0,
    note: Note = lambda remark: None,
) -> list[Outcome]:
    """Recognise the persons of an archive by one of :data:`sgela_fast.baselines.registry.BASELINES`.

    Windows, sides, figures and the choice of settings are the evaluation's own, so that the outcomes can be compared
    with those of a store whose encoder reads the same windows.

    Args:
        name: of the baseline.
        archive: recordings with persons and a split column.
        split: the column.
        window: how recordings are cut; the default is the encoder's.
        evaluation: protocols, sides, intervals, device and, in ``recognition``, how a setting or an epoch is chosen.
            ``splits`` and seeds are not used: a call is one split and one seed.
        config: how baselines are trained, and how long.
        seed: of whatever is random.
        note: called with remarks on the progress.

    Returns:
        The outcome under protocol C, that under protocol G, or both in this order, with their probes. Protocol G
        compares the vectors that the classifier reads, standardised over the training windows, or those that the
        network makes before its last layer. It is done once for a split wherever nothing is trained for it.

    Raises:
        ConfigError: the baseline is unknown, or a setting does not fit.
        DataError: the archive lacks joints, persons or sides.
        DivergenceError: a network's loss is not finite.
        MissingDependencyError: an optional library is not installed.
    """
    baseline = get_baseline(name)
    config, evaluation = config or BaselineConfig(), evaluation or EvaluationConfig()
    require_comparable(evaluation)
    archive = archive if isinstance(archive, Archive) else Archive(archive)
    device = choose_device(evaluation.device, "device")
    if evaluation.threads:
        torch.set_num_threads(evaluation.threads)
    extract = getattr(feature_functions, baseline.features)
    store = ArchiveWindows(archive, window or WindowConfig(), extract)
    sides = divide(store, split, evaluation)

    def remark(text: str) -> None:
        note(f"{baseline.title}, {text}")

    task = _Task(baseline, sides, split, evaluation, config, seed, device, remark)
    outcomes = _run_network(task) if baseline.is_network else _run_classical(task)
    return [replace(outcome, probes=Probes.of(sides.test, sides.persons, outcome)) for outcome in outcomes]


class _Task(NamedTuple):
    baseline: Baseline
    sides: Sides
    split: str
    evaluation: EvaluationConfig
    config: BaselineConfig
    seed: int
    device: torch.device
    note: Note

    def wants(self, protocol: str) -> bool:
        return self.evaluation.protocol in (protocol, "both")


def _run_classical(task: _Task) -> list[Outcome]:
    sides, method = task.sides, task.baseline.method
    vectors = [Features(side, "mean", np.inf) for side in (sides.train, sides.test)]
    standardise = Standardiser(vectors[0], torch.arange(len(vectors[0])))
    train, test = (standardise(side.rows()) for side in vectors)
    task.note(f"{len(train):,} training and {len(test):,} test windows of {train.shape[1]} features")
    outcomes = []
    if task.wants("C"):
        rows = train.numpy(), test.numpy()
        run = ClassicalRun(method, task.config, sides, *rows, task.split, task.evaluation, task.note)
        outcomes.append(run.outcome(task.seed))
    if task.wants("G"):
        outcomes.append(_retrieve(task, train, test))
    return outcomes


def _run_network(task: _Task) -> list[Outcome]:
    method = task.baseline.method
    run = network_run(method, task.config, task.sides, task.split, task.evaluation, task.device, task.note)
    trained = run.trained(task.seed)
    outcomes = []
    if task.wants("C"):
        outcomes.append(run.outcome_of(trained, trained.training.logits(run.test)))
    if task.wants("G"):
        train, test = (window_vectors(trained.training, features) for features in (run.train, run.test))
        outcome = _retrieve(task, train, test)
        selection = f"trained with labels; {run.recognition.selection_label}"
        details = {**outcome.details, **trained.details}
        outcomes.append(replace(outcome, seed=task.seed, selection=selection, details=details))
    return outcomes


def _retrieve(task: _Task, train: Tensor, test: Tensor) -> Outcome:
    """Protocol G on vectors of the training windows ``(N, D)`` and of the test windows."""
    sides = task.sides
    values = np.empty((len(sides.train.store), train.shape[1]), np.float32)
    values[sides.train.rows], values[sides.test.rows] = train.numpy(), test.numpy()
    store = VectorStore(sides.train.store, values)
    sides = replace(sides, train=replace(sides.train, store=store), test=replace(sides.test, store=store))
    outcome, _ = run_retrieval(sides, task.split, task.evaluation, task.device)
    task.note("G")
    return outcome
