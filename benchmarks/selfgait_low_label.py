"""What pre-training is worth when few labels are known: SelfGait on rendered silhouettes of synthetic walkers.

    python -m benchmarks.selfgait_low_label --out results/selfgait_low_label --work low_label
    python -m benchmarks.selfgait_low_label --out trial --work trial_work --seeds 1 --persons 12 --train 8 \
        --pretrain_steps 4 --finetune_steps 4

Networks are fine-tuned with triplets on shares of the training persons' labels, once from pre-trained and once from
fresh weights, with the same steps and batches; persons that nobody was trained on are then recognised across views
(CASIA-B's protocol, identical views left out). Pre-training sees the silhouettes of all training persons and no label.
Each cell is a line of ``WORK/cells.jsonl`` as soon as it is done, and is not done again. Writes ``OUT.json`` and
``OUT.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from sgela_fast.atomic import make_folder, write_json, write_text
from sgela_fast.benchmarks.harness.environment import describe
from sgela_fast.checkpoints.history import read_history
from sgela_fast.checkpoints.selfgait_run import load_selfgait
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.cross_view import Embeddings, cross_view
from sgela_fast.models.selfgait import SelfGait, build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.config import ClipConfig, RenderConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.splits import labelled, split_subjects
from sgela_fast.training.checkpoint import list_checkpoints
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig
from sgela_fast.training.selfgait.job import fit_selfgait, train_selfgait
from sgela_fast.training.selfgait.probe import embed_sequences

ORIGINS = ("scratch", "pretrained")
MOVED = {"rotate": 8.0, "scale": 0.1, "shift": 0.05, "erase": 0.5}  # how the views of a pair are changed beside flips


class Cell(NamedTuple):
    """One training: ``labels`` is 0 for embeddings that were not fine-tuned."""

    origin: str
    labels: float
    seed: int

    @property
    def name(self) -> str:
        """Names the cell in files and folders."""
        return f"{self.origin}-{self.labels:g}-seed{self.seed}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do every cell that is not done, then write and print the table."""
    options = parse(arguments)
    study = Study(options)
    for number, cell in enumerate(study.cells, start=1):
        if cell.name in study.done:
            continue
        begun = time.monotonic()
        found = study.measure(cell)
        study.keep(cell, {**found, "seconds": round(time.monotonic() - begun, 1)})
        line = ", ".join(f"{kind} {share:.1%}" for kind, share in found["rank1"].items())
        print(f"{number} of {len(study.cells)}: {cell.name}: {line}", file=sys.stderr, flush=True)
    result = study.result()
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), table(result) + "\n")
    print(table(result))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="result files without their ending")
    parser.add_argument("--work", type=Path, required=True, help="folder of cells and runs")
    parser.add_argument("--persons", type=int, default=90, help="walkers that are rendered")
    parser.add_argument("--train", type=int, default=60, help="the first so many are trained on, the others tested")
    parser.add_argument("--views", nargs="+", default=["036", "090", "144"])
    parser.add_argument("--labels", nargs="+", type=float, default=[0.1, 0.2, 0.5, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0, help="choose settings with other seeds than are committed")
    parser.add_argument("--walkers", type=int, default=0, help="seed of the walkers; choose settings with others, too")
    parser.add_argument("--frames", type=int, default=24, help="of a rendered walk")
    parser.add_argument("--clip", type=int, default=8, help="frames of a clip")
    parser.add_argument("--shrink", type=int, default=4, help="4: 16 x 11 pixels")
    parser.add_argument("--pairs", choices=("same", "apart"), default="apart", help="frames of a pair's two views")
    for name, value in MOVED.items():
        parser.add_argument(f"--{name}", type=float, default=value, help="of pre-training's clips")
    parser.add_argument("--channels", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--bins", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--embedding", type=int, default=32)
    parser.add_argument("--batch_persons", type=int, default=6)
    parser.add_argument("--batch_clips", type=int, default=6)
    parser.add_argument("--pretrain_steps", type=int, default=400)
    parser.add_argument("--finetune_steps", type=int, default=400)
    parser.add_argument("--pretrain_rate", type=float, default=0.03, help="falls to 0")
    parser.add_argument("--finetune_rate", type=float, default=0.1, help="falls to 0")
    parser.add_argument("--start_distance", type=float, default=1.0, help="of two clips' embeddings before fine-tuning")
    parser.add_argument("--ema", type=float, default=0.99, help="momentum of the target; short trainings need less")
    parser.add_argument("--norm", choices=("shared", "strip"), default="strip")
    parser.add_argument("--objective", choices=("future", "clip"), default="clip")
    return parser.parse_args(arguments)


class Study:
    """Data, settings and what is done."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work = make_folder(options.work)
        self.file = self.work / "cells.jsonl"
        self.settings = {
            name: value
            for name, value in vars(options).items()
            if name not in ("out", "work", "seeds", "first_seed", "labels")
        }
        self._claim()
        self.done = self._read()
        self.seeds = range(options.first_seed, options.first_seed + options.seeds)
        render = RenderConfig(
            persons=options.persons, frames=options.frames, views=tuple(options.views), seed=options.walkers
        )
        self.silhouettes = SilhouetteSet.rendered(render, cache_mb=4096)
        sides = split_subjects(self.silhouettes.sequences, options.train)
        self.trained_on, self.tested = (self.silhouettes.select(rows) for rows in sides)
        model = SelfGaitConfig(
            channels=tuple(options.channels),
            bins=tuple(options.bins),
            embedding=options.embedding,
            projector=2 * options.embedding,
            momentum=options.ema,
            norm=options.norm,
            objective=options.objective,
        )
        self.clips, self.model = fit_selfgait(model, ClipConfig(frames=options.clip, shrink=options.shrink))
        changed = {name: getattr(options, name) for name in MOVED}
        self.pairs = replace(self.clips, apart=options.pairs == "apart", **changed)

    @property
    def cells(self) -> list[Cell]:
        """All of them, seed by seed; a pre-training comes before what starts from it."""
        return [
            Cell(origin, labels, seed)
            for seed in self.seeds
            for labels in (0.0, *self.options.labels)
            for origin in ORIGINS
        ]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Train what the cell asks for, and test it."""
        values: dict[str, float] = {}
        if cell.labels or cell.origin == "pretrained":
            model, values = self._trained(cell)
        else:
            model = build_selfgait(self.model, seed=cell.seed)
        table = self.tested.sequences
        vectors = embed_sequences(model.eval(), self.tested, self.clips)  # (n, S * E)
        strips = vectors.reshape(len(table), self.model.strips, -1)
        config = EvaluationConfig(protocol="casia-b", resamples=0)
        found = cross_view(Embeddings(strips, table.subject, table.condition, table.view), config)
        return {"rank1": {kind.kind: kind.mean for kind in found.kinds}, "training": values}

    def _trained(self, cell: Cell) -> tuple[SelfGait, dict[str, float]]:
        options, run = self.options, self.work / "runs" / cell.name
        start = None
        if cell.labels and cell.origin == "pretrained":
            start = self.work / "runs" / cell._replace(labels=0.0).name
        steps = options.finetune_steps if cell.labels else options.pretrain_steps
        config = SelfGaitTrainingConfig(
            stage="finetune" if cell.labels else "pretrain",
            labels=cell.labels or 1.0,
            persons=options.batch_persons,
            clips=options.batch_clips,
            start_distance=options.start_distance,
            max_steps=steps,
            decay_steps=steps,
            learning_rate=options.finetune_rate if cell.labels else options.pretrain_rate,
            seed=cell.seed,
            device="cpu",
            threads=1,
            checkpoint_every=200,
            keep_checkpoints=1,
        )
        model, clips = None if start else self.model, self.clips if cell.labels else self.pairs
        resume = bool(list_checkpoints(run))
        result = train_selfgait(self.trained_on, run, model, clips, config, start=start, resume=resume)
        loaded = load_selfgait(run).model
        history = read_history(run)
        begun = {"first_spread": float(history.spread[0]), "first_directions": float(history.directions[0])}
        if cell.labels:
            shutil.rmtree(run)  # nothing starts from it
        return loaded, {**result.values, **begun}

    def keep(self, cell: Cell, found: dict[str, Any]) -> None:
        """Append a finished cell to the file of cells."""
        entry = {"cell": cell.name, **cell._asdict(), **found}
        cut_off = self.file.exists() and not self.file.read_text().endswith("\n")
        with self.file.open("a") as file:
            file.write("\n" * cut_off + json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[cell.name] = entry

    def _read(self) -> dict[str, dict[str, Any]]:
        """Finished cells of an earlier call; a line that was cut off is no cell."""
        found = {}
        for line in self.file.read_text().splitlines() if self.file.exists() else []:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                found[entry["cell"]] = entry
        return found

    def _claim(self) -> None:
        """The folder holds a study of these settings, or nothing."""
        path = self.work / "settings.json"
        if path.exists() and json.loads(path.read_text()) != self.settings:
            raise SystemExit(f"{self.work} holds a study with other settings; choose another --work")
        write_json(path, self.settings)

    def result(self) -> dict[str, Any]:
        """Everything that was found."""
        return {
            "environment": describe("cpu", "ieee"),
            "settings": self.settings,
            "model": asdict(self.model),
            "parameters": sum(value.numel() for value in SelfGait(self.model).online.parameters()),
            "sequences": {"trained_on": len(self.trained_on), "tested": len(self.tested)},
            "rows": [self._row(labels) for labels in (0.0, *self.options.labels)],
            "cells": [self.done[cell.name] for cell in self.cells],
        }

    def _row(self, labels: float) -> dict[str, Any]:
        """Means over seeds for one share of labels, and of the differences between paired seeds."""
        row: dict[str, Any] = {"labels": labels, "persons": self._labelled(labels)}
        found = {
            origin: [
                {**rank1, "mean": statistics.fmean(rank1.values())}
                for seed in self.seeds
                for rank1 in [self.done[Cell(origin, labels, seed).name]["rank1"]]
            ]
            for origin in ORIGINS
        }
        for kind in found["scratch"][0]:
            scratch, pretrained = ([entry[kind] for entry in found[origin]] for origin in ORIGINS)
            gains = [after - before for before, after in zip(scratch, pretrained, strict=True)]
            row[kind] = {"scratch": interval(scratch), "pretrained": interval(pretrained), "gain": interval(gains)}
        return row

    def _labelled(self, labels: float) -> int:
        if not labels:
            return 0
        table = self.trained_on.sequences
        return len(table[labelled(table, labels)].subjects)


def interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, float | None]:
    """Mean of a figure over seeds and half of its confidence interval by Student's t; ``None`` for a single seed."""
    half = None
    if len(values) > 1:
        quantile = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
        half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": statistics.fmean(values), "half": half}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    settings, counts = result["settings"], result["sequences"]
    seeds = len({cell["seed"] for cell in result["cells"]})
    chance = 1 / (settings["persons"] - settings["train"])
    kinds = [name for name in result["rows"][0] if name not in ("labels", "persons", "mean")]
    lines = [
        "# SelfGait with few labels, on rendered silhouettes of synthetic walkers",
        "",
        f"{settings['train']} persons ({counts['trained_on']:,} sequences) to train on, "
        f"{settings['persons'] - settings['train']} others ({counts['tested']:,} sequences, "
        f"{len(settings['views'])} views) to be recognised; chance {100 * chance:.1f}. Frames of "
        f"{' x '.join(map(str, (result['model']['height'], result['model']['width'])))} pixels, clips of "
        f"{settings['clip']}; {result['parameters']:,} weights; {settings['pretrain_steps']:,} steps of pre-training, "
        f"{settings['finetune_steps']:,} of fine-tuning, {settings['batch_persons']} x {settings['batch_clips']} "
        "clips a step.",
        "",
        f"Rank-1 in per cent under CASIA-B's protocol, identical views left out, mean over {seeds} seeds ± half of the "
        "95 % interval (Student's t over seeds; gains are paired by seed).",
        "",
        f"| labels | persons | {' | '.join(f'{kind}, scratch | {kind}, pre-trained' for kind in kinds)} | gain, mean |",
        "|---" * (3 + 2 * len(kinds)) + "|",
    ]
    for row in result["rows"]:
        cells = [shown(row[kind][origin]) for kind in kinds for origin in ORIGINS]
        first = f"{row['labels']:.0%}" if row["labels"] else "none"
        lines.append(f"| {first} | {row['persons']} | {' | '.join(cells)} | {shown(row['mean']['gain'])} |")
    collapse = [cell["training"] for cell in result["cells"] if cell["origin"] == "pretrained" and not cell["labels"]]
    lines += [
        "",
        "Without labels, scratch is a network of fresh weights. From the first to the last step of pre-training, the "
        f"spread of a batch's embeddings (0 is a collapse, 1 all directions) went from {course(collapse, 'spread')}, "
        f"the number of directions in which they differ from {course(collapse, 'directions')}. "
        f"{sum(cell['seconds'] for cell in result['cells']) / 60:.0f} minutes in all, "
        f"{result['environment'].get('cpu', 'one CPU core')}.",
    ]
    return "\n".join(lines)


def course(found: Sequence[dict[str, float]], name: str) -> str:
    """A logged value at the first and the last step of some trainings."""
    return ", ".join(f"{values[f'first_{name}']:.2f} to {values[name]:.2f}" for values in found)


def shown(figure: dict[str, float | None]) -> str:
    """A figure in per cent with its half interval."""
    mean, half = figure["mean"], figure["half"]
    assert mean is not None
    return f"{100 * mean:.1f}" if half is None else f"{100 * mean:.1f} ± {100 * half:.1f}"


if __name__ == "__main__":
    main()
