"""The job: stores in, figures out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from sgela_fast._version import __version__
from sgela_fast.atomic import make_folder
from sgela_fast.errors import ConfigError, MissingDependencyError
from sgela_fast.evaluation.comparison import compare_stores, require_same_windows
from sgela_fast.evaluation.config import EvaluationConfig, refuse_cross_view
from sgela_fast.evaluation.leakage import check_sides
from sgela_fast.evaluation.plots import plot_cmc, plot_distances
from sgela_fast.evaluation.probes import Probes, write_probes
from sgela_fast.evaluation.recognition_protocol import RecognitionRun
from sgela_fast.evaluation.results import EvaluationResult, Outcome, StoreResult
from sgela_fast.evaluation.retrieval_protocol import Distances, run_retrieval
from sgela_fast.evaluation.sides import Sides, WindowStore, divide
from sgela_fast.models.device import choose_device

RESULTS = "results.json"
PROBES = "probes"
_LIBRARIES = ("torch", "numpy", "scikit-learn", "scipy")


def evaluate(
    stores: str | Path | Sequence[str | Path],
    config: EvaluationConfig,
    *,
    train: str | Path | None = None,
    out: str | Path | None = None,
    plots: bool = True,
    compare: bool = False,
    progress: Callable[..., None] = lambda units=1, *, note="": None,
) -> EvaluationResult:
    """Evaluate stores of gait encodings.

    Args:
        stores: a store folder, or several; each gets its own figures.
        config: what is evaluated.
        train: store with the training windows; without it each store holds both sides.
        out: folder for ``results.json``, the probes' files and the plots; nothing is written without it.
        plots: draw CMC curves and distance histograms into ``out``.
        compare: compare each store with the first one, paired by probes.
        progress: called with finished runs (of :func:`count_runs`) and a remark.

    Raises:
        DataError: a store does not fit the evaluation.
        ConfigError: a setting does not fit this machine.
        DivergenceError: a recognition network's loss is not finite.
        OutputError: a result cannot be written.
        MissingDependencyError: an optional library is not installed.
    """
    from sgela_fast.encoding.store import Store

    train_store = None if train is None else Store(train)
    folders = [stores] if isinstance(stores, str | Path) else stores
    return evaluate_stores([Store(path) for path in folders], config, train_store, out, plots, progress, compare)


def count_runs(stores: int, config: EvaluationConfig) -> int:
    """Runs of an evaluation: protocol C has one for each seed, the others one."""
    each = {"C": len(config.recognition.seeds), "G": 1, "both": len(config.recognition.seeds) + 1}
    return stores * len(config.splits) * each.get(config.protocol, 1)


def evaluate_stores(
    stores: Sequence[WindowStore],
    config: EvaluationConfig,
    train_store: WindowStore | None = None,
    out: str | Path | None = None,
    plots: bool = True,
    progress: Callable[..., None] = lambda units=1, *, note="": None,
    compare: bool = False,
) -> EvaluationResult:
    """:func:`evaluate` with opened stores."""
    refuse_cross_view(config)
    _require_libraries(plots and out is not None)
    device = choose_device(config.device, "device")
    if config.threads:
        torch.set_num_threads(config.threads)
    if compare and len(stores) < 2:
        raise ConfigError("there is a single store; give two or more to compare")
    # All stores are divided before the first run, so that a wrong column is told at once.
    labels = _labels(stores)
    divisions = [[divide(store, split, config, train_store) for split in config.splits] for store in stores]
    for other in divisions[1:] if compare else ():
        for one, two in zip(divisions[0], other, strict=True):
            require_same_windows(one, two)
    folder = None if out is None else make_folder(Path(out))
    results: list[StoreResult] = []
    taken: set[str] = set()
    distances: dict[str, tuple[str, Distances]] = {}
    for label, store, sides_of_splits in zip(labels, stores, divisions, strict=True):
        outcomes: list[Outcome] = []
        for split, divided in zip(config.splits, sides_of_splits, strict=True):
            sides = replace(divided, notes=divided.notes + check_sides(divided).sentences())
            where = f"{label}, {split or 'all windows'}"
            if config.protocol in ("C", "both"):
                outcomes += _recognition(sides, split, config, device, where, progress)
            if config.protocol in ("G", "both"):
                outcome, found = _retrieval(sides, split, config, device, where, progress)
                outcomes.append(outcome)
                distances.setdefault(label, (split, found))
        if folder is not None:
            outcomes = [_write_probes(outcome, label, folder, taken) for outcome in outcomes]
        results.append(StoreResult(label, store.info.get("model_hash"), outcomes))
    settings = {
        "stores": [str(store.path) for store in stores],
        **asdict(config),
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    versions = {"sgela_fast": __version__, **{name: metadata.version(name) for name in _LIBRARIES}}
    result = EvaluationResult(settings, versions, None if train_store is None else str(train_store.path), results)
    if compare:
        compared = compare_stores(result, resamples=config.resamples, confidence=config.confidence)
        result = replace(result, comparisons=compared)
    if folder is not None:
        if plots:
            _draw(result, distances, folder)
        result.write(folder / RESULTS)
    return result


def _recognition(
    sides: Sides, split: str, config: EvaluationConfig, device: torch.device, where: str, progress: Callable[..., None]
) -> list[Outcome]:
    run = RecognitionRun(sides, split, config, device, lambda remark: progress(0, note=f"{where}, C, {remark}"))
    outcomes = []
    for seed in config.recognition.seeds:
        outcome = run.outcome(seed)
        outcomes.append(replace(outcome, probes=Probes.of(run.test_side, sides.persons, outcome)))
        progress(1, note=f"{where}, C, seed {seed}")
    return outcomes


def _retrieval(
    sides: Sides, split: str, config: EvaluationConfig, device: torch.device, where: str, progress: Callable[..., None]
) -> tuple[Outcome, Distances]:
    done = 0

    def advance(probes: int) -> None:
        nonlocal done
        done += probes
        progress(0, note=f"{where}, G, {done:,} of {len(sides.test):,} probe windows")

    outcome, distances = run_retrieval(sides, split, config, device, advance)
    progress(1, note=f"{where}, G")
    return replace(outcome, probes=Probes.of(sides.test, sides.persons, outcome)), distances


def _write_probes(outcome: Outcome, label: str, folder: Path, taken: set[str]) -> Outcome:
    """Write an outcome's probes under a name that says what they are and is not among those ``taken``."""
    assert outcome.probes is not None
    parts = [
        label,
        outcome.split or "all",
        outcome.protocol,
        *([] if outcome.seed is None else [f"seed{outcome.seed}"]),
    ]
    plain = name = "_".join(re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in parts)
    count = 1
    while name.lower() in taken:
        count += 1
        name = f"{plain}_{count}"
    taken.add(name.lower())
    file = f"{PROBES}/{name}.npz"
    write_probes(folder / file, outcome.probes)
    return replace(outcome, probes_file=file)


def _draw(result: EvaluationResult, distances: dict[str, tuple[str, Distances]], folder: Path) -> None:
    for protocol in ("C", "G"):
        firsts = {
            store.store: next((o for o in store.outcomes if o.protocol == protocol), None) for store in result.stores
        }
        found = {label: outcome for label, outcome in firsts.items() if outcome is not None}
        if not found:
            continue
        first = next(iter(found.values()))
        title = f"Protocol {protocol}, {first.selection}\n{first.persons} persons, {_run_name(first)}"
        for level in ("windows", "recordings"):
            curves = {label: getattr(outcome, level).cmc for label, outcome in found.items()}
            plot_cmc(curves, f"{title}, probes: {level}", folder / f"cmc_{protocol}_{level}.png")
    for position, (label, (split, found_distances)) in enumerate(distances.items()):
        name = "distances.png" if len(distances) == 1 else f"distances_{position}.png"
        title = f"Protocol G, probe windows to persons\n{label}, {split or 'all windows'}"
        plot_distances(found_distances.same, found_distances.other, title, folder / name)


def _run_name(outcome: Outcome) -> str:
    split = outcome.split or "all windows"
    return split if outcome.seed is None else f"{split}, seed {outcome.seed}"


def _labels(stores: Sequence[WindowStore]) -> list[str]:
    """The folders' names, or their paths where names repeat."""
    names = [store.path.name for store in stores]
    if len(set(map(str, (store.path for store in stores)))) < len(names):
        raise ConfigError("a store is given twice; name each store once")
    return names if len(set(names)) == len(names) else [str(store.path) for store in stores]


def _require_libraries(plots: bool) -> None:
    """Better told now than after hours of training."""
    missing = [name for name in ("sklearn", "scipy", *(("matplotlib",) if plots else ())) if find_spec(name) is None]
    if missing:
        remark = "" if missing != ["matplotlib"] else ", or leave the plots out with --no-plots"
        needed = ", ".join(missing)
        raise MissingDependencyError(
            f'evaluation needs {needed}; install it with pip install "sgela_fast[eval]"{remark}'
        )
