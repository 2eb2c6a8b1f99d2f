"""Results to draw: walkers who do not exist, a store of their poses, an evaluation and a made-up reproduction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.atomic import write_json
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.evaluation.cross_view_results import CrossViewKind, CrossViewResult, as_json
from sgela_fast.evaluation.evaluate import evaluate
from sgela_fast.evaluation.probes import Probes
from sgela_fast.report.config import ReportConfig
from sgela_fast.reproduction.results import CellResult, ResultsFolder
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WalkerConfig, WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.walker import walks

PERSONS, WALKS, FRAMES = 5, 4, 6
# Names are other people's text: none of these may become markup, script or a broken page.
NASTY = "<script>window.harmed = 1</script>"
NASTY_PERSON = '"><img src=x onerror="window.harmed=1">\u2028</script><!--'
NASTY_STORE = "<img src=x onerror='window.harmed=1'>"
SMALL = ReportConfig(projection="pca", points=120, probes=4, seconds=1.0, rate=10.0, queries=60)


def write_archive(path: Path) -> Archive:
    """Walks of persons who do not exist; one person and recording have names that are markup."""
    config = WalkerConfig(persons=PERSONS, walks=WALKS, min_frames=60, max_frames=70)
    writer = ArchiveWriter(path, get_layout("kinect-v1"), {"source": "walkers"})
    first = None
    for recording in walks(config):
        first = first or recording.person
        if recording.person == first:
            nasty = recording.name.endswith("_1")
            recording = replace(recording, person=NASTY_PERSON, name=NASTY if nasty else recording.name)
        writer.add(recording)
    return writer.finish()


def write_store(path: Path, archive: Archive) -> None:
    """Windows of an archive, each encoded as its skeletons, flattened: poses and bone lengths tell persons apart."""
    info = {
        "pooling": "none",
        "dtype": "float32",
        "frames": FRAMES,
        "dim": 60,
        "model_hash": "poses",
        "origin": "poses",
    }
    info |= {"archive": str(archive.path), "archive_fingerprint": archive.fingerprint, "layout": "kinect-v1"}
    writer = StoreWriter(path, info)
    window = WindowConfig(frames=FRAMES, trim=5)
    for recording in archive:
        starts = np.asarray(window.starts(recording.frames))
        centred = recording.joints - recording.joints[:, :1]
        values = np.stack([centred[start : start + FRAMES].reshape(FRAMES, 60) for start in starts])
        columns = {
            "recording": [recording.name] * len(starts),
            "person": [recording.person] * len(starts),
            "window_start": starts.tolist(),
            "frames": [FRAMES] * len(starts),
            "valid": [True] * len(starts),
            "split": [recording.extra["split"]] * len(starts),
        }
        writer.add(values, columns)
    writer.finish()


def reproduction_cells(folder: ResultsFolder) -> list[CellResult]:
    """Some of every kind of cell."""
    generator = np.random.default_rng(0)
    names = np.array([f"p{person}" for person in range(20)])
    cells = []
    for row, label, las, rank1 in (("las-reverse-ages", "LAS, reverse, AGEs", True, 61.5), ("bas", "BAS", False, 55.0)):
        for seed in (0, 1):
            person = np.repeat(np.arange(20, dtype=np.int32), 5)
            rank = np.minimum(1 + generator.geometric(0.5, len(person)), 20).astype(np.int32)
            name = f"{row}-{seed}"
            recordings = np.array([f"{item}_1" for item in names])
            probes_file = folder.write_probes(
                name, Probes(person, names, person, recordings, np.arange(len(person)), rank, rank[::5])
            )
            figures = {"rank1": rank1 + seed, "rank5": 90.0, "nauc_cmc": 95.0, "nauc_roc": 94.0, "mean_ap": None}
            cells.append(
                CellResult(
                    cell=f"table2/kgbd/{row}/split/seed{seed}/C-validation",
                    table="2",
                    row=row,
                    label=label,
                    dataset="kgbd",
                    trained_on="kgbd",
                    components={"GE": True, "GD": True, "LAS": las},
                    protocol="C",
                    selection="validation",
                    seed=seed,
                    persons=20,
                    probes=100,
                    figures=figures,
                    interval={"rank1": (50.0, 70.0)},
                    recordings={"rank1": 80.0},
                    chance=5.0,
                    published={"rank1": 59.1, "nauc": 86.5, "dataset": "BIWI", "source": "Table 2"},
                    training={
                        "steps": 3,
                        "epochs": 1,
                        "seconds": 2.0,
                        "curve": [[1, 10.0 + seed, 0.5, None], [100, 1.0, 0.1, 1.5], [200, 0.5, 0.05, 0.75]],
                    },
                    probes_file=probes_file,
                )
            )
    cells += [
        CellResult(
            cell=f"sweep-frames/kgbd/f{frames}",
            table="sweep-frames",
            row=f"f{frames}",
            label=f"f = {frames}",
            dataset="kgbd",
            protocol="C",
            selection="validation",
            persons=20,
            figures={"rank1": 50.0 + frames},
            interval={"rank1": (45.0, 70.0)},
        )
        for frames in (4, 6)
    ]
    matrix = np.full((3, 6, 6), 1 / 6).tolist()
    cells.append(
        CellResult(
            cell="figure3a/kgbd/las",
            table="figure3a",
            row="las",
            label="LAS",
            dataset="kgbd",
            values={"attention": matrix},
        )
    )
    cells.append(
        CellResult(
            cell="size/las",
            table="size",
            row="las",
            label="LAS",
            dataset="",
            values={"parameters": 5_700_000, "flops": 7.2e7},
        )
    )
    return cells


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``walks.sga``, ``walks.store``, ``figures`` (an evaluation) and ``reproduced``."""
    folder = tmp_path_factory.mktemp("report")
    write_store(folder / "walks.store", write_archive(folder / "walks.sga"))
    config = EvaluationConfig(recognition=RecognitionConfig(max_epochs=3, hidden=16), resamples=20, threads=1)
    evaluate([folder / "walks.store"], config, out=folder / "figures", plots=False)
    reproduction = ResultsFolder(folder / "reproduced")
    reproduction.append(reproduction_cells(reproduction))
    claim = {"claim": "las-over-bas", "statement": "las is better than bas", "dataset": "kgbd", "protocol": "C"}
    claim |= {"better": 62.0, "worse": 55.5, "difference": 6.5, "interval": [1.5, 11.0], "p_value": 0.012}
    claim |= {"differences": [6.5, 6.5], "published": {"better": 59.1, "worse": 55.1}, "verdict": "holds", "note": ""}
    undecided = {
        **claim,
        "interval": None,
        "p_value": None,
        "published": None,
        "verdict": "not decided",
        "note": "1 run",
    }
    leak = {
        "severity": "warning",
        "sentence": "the place of hip_center alone names the person of 11 % of the test frames",
    }
    environment = {"versions": {"torch": "2.13.0"}, "device": "cpu"}
    reproduction.write_index(
        {
            "claims": [claim, undecided],
            "leakage": [{"dataset": "kgbd", "split": "split", "trained_on": None, "findings": [leak]}],
            "environment": environment,
            "datasets": [{"name": "kgbd", "persons": 20}],
            "created": "today",
        }
    )
    return folder


def cross_view_content(stores: Path, views: tuple[str, ...] = ("000", "090", "180")) -> dict[str, Any]:
    """An evaluation across views of two stores, one of a name that is markup, as ``evaluate`` writes it."""
    generator = np.random.default_rng(0)
    results = []
    for name in ("embeddings", NASTY_STORE):
        kinds = []
        for kind in ("NM", "BG", "CL"):
            rank1: list[list[float | None]] = generator.uniform(0.2, 0.9, (len(views), len(views))).round(3).tolist()
            rank1[0][-1] = None
            others = [
                [cell for at, cell in enumerate(row) if at != place and cell is not None]
                for place, row in enumerate(rank1)
            ]
            by_view: list[float | None] = [float(np.mean(row)) for row in others]
            mean = float(np.mean([value for value in by_view if value is not None]))
            interval = (mean - 0.05, mean + 0.05)
            kinds.append(CrossViewKind(kind, 30, 2, rank1, by_view, mean, 0.95, interval))
        results.append(CrossViewResult("casia-b", str(stores / name), 10, 120, 3, "wrong", False, list(views), kinds))
    return as_json(results, EvaluationConfig(protocol="casia-b"))


def study_content() -> dict[str, Any]:
    """A study of few labels as ``benchmarks/selfgait_low_label.py`` writes it."""
    rows = []
    for place, labels in enumerate((0.0, 0.1, 0.5, 1.0)):
        row: dict[str, Any] = {"labels": labels, "persons": round(60 * labels)}
        for step, kind in enumerate(("NM", "BG", "CL", "mean")):
            scratch = 0.2 + 0.2 * place - 0.02 * step
            row[kind] = {
                "scratch": {"mean": scratch, "half": 0.3},
                "pretrained": {"mean": scratch + 0.1, "half": 0.05},
                "gain": {"mean": 0.1, "half": 0.02 if labels > 0.1 else 0.15},
            }
        rows.append(row)
    cells = [
        {"cell": f"pretrained-0-seed{seed}", "origin": "pretrained", "labels": 0.0, "seed": seed}
        | {"training": {"spread": 0.8}, "seconds": 1.0}
        for seed in range(3)
    ]
    settings = {"persons": 90, "train": 60, "views": ["036", "090"], "clip": 8, "norm": "strip"}
    return {
        "environment": {"cpu": "a processor", "python": "3.11"},
        "settings": settings,
        "model": {"height": 32, "width": 22},
        "parameters": 12345,
        "sequences": {"trained_on": 1200, "tested": 600},
        "rows": rows,
        "cells": cells,
    }


@pytest.fixture(scope="session")
def silhouettes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``embeddings`` (a store), ``views`` (its evaluation) and ``study.json``."""
    folder = tmp_path_factory.mktemp("silhouettes")
    generator = np.random.default_rng(0)
    info = {"pooling": "max", "dtype": "float32", "frames": 5, "dim": 6, "strips": 3, "channels": 2}
    info |= {"origin": "run folder runs/fine", "archive": "sets/drawn", "model_hash": "none", "system": "selfgait"}
    writer = StoreWriter(folder / "embeddings", info)
    names = [(person, view) for person in (NASTY_PERSON, "002", "003") for view in ("000", "090", "180")]
    count = len(names)
    writer.add(
        generator.normal(size=(count, 6)).astype(np.float32),
        {
            "recording": [f"{person}/nm-01/{view}" for person, view in names],
            "person": [person for person, _ in names],
            "window_start": [0] * count,
            "frames": [5] * count,
            "valid": [True] * count,
            "condition": ["nm-01"] * count,
            "view": [view for _, view in names],
        },
    )
    writer.finish()
    (folder / "views").mkdir()
    write_json(folder / "views" / "cross_view.json", cross_view_content(folder))
    write_json(folder / "study.json", study_content())
    return folder
