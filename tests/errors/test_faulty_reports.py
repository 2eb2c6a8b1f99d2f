"""A report of something at fault ends as the documentation says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.cross_view_results import CrossViewKind, CrossViewResult, as_json
from sgela_fast.reproduction.results import CellResult, ResultsFolder

Complains = Callable[..., None]
FIGURES = {"probes": 2, "rank": {"1": 0.5}, "cmc": [0.5, 1.0], "nauc_cmc": 0.75, "nauc_roc": 0.75}


def evaluated(inputs: Any, **changes: Any) -> None:
    """Results of a store in ``figures``, beside the store."""
    inputs.take("walks.store")
    outcome = {"protocol": "G", "split": "split", "seed": None, "selection": "nothing trained", "persons": 2}
    outcome |= {"probe_windows": 2, "gallery_windows": 2, "chance": 0.5, "left_out": {}, "notes": []}
    outcome |= {"windows": FIGURES, "recordings": FIGURES}
    head = {"schema": "sgela-fast/evaluation", "version": 1, "settings": {"stores": ["walks.store"]}}
    content = {**head, "stores": [{"store": "walks.store", "outcomes": [outcome]}], **changes}
    Path("figures").mkdir()
    Path("figures/results.json").write_text(json.dumps(content))


def test_results_that_do_not_exist(complains: Complains) -> None:
    complains("report", "figures")


def test_folder_without_results(complains: Complains) -> None:
    Path("empty").mkdir()
    complains("report", "empty")


def test_results_cut_off(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    inputs.cut("figures/results.json")
    complains("report", "figures")


def test_results_without_a_store(inputs: Any, complains: Complains) -> None:
    evaluated(inputs, stores=[])
    complains("report", "figures")


def test_results_of_a_newer_version(inputs: Any, complains: Complains) -> None:
    evaluated(inputs, version=2)
    complains("report", "figures")


def test_pipeline_that_has_no_figures_yet(complains: Complains) -> None:
    Path("results").mkdir()
    Path("results/pipeline.json").write_text("{}")
    complains("report", "results")


def across_views() -> None:
    """Results of silhouettes in ``views``."""
    Path("views").mkdir()
    kind = CrossViewKind("NM", 2, 0, [[1.0]], [None], None, 1.0, None)
    result = CrossViewResult("casia-b", "embeddings", 2, 8, 1, "wrong", False, ["090"], [kind])
    Path("views/cross_view.json").write_text(json.dumps(as_json([result], EvaluationConfig(protocol="casia-b"))))


def test_results_across_views_cut_off(inputs: Any, complains: Complains) -> None:
    across_views()
    inputs.cut("views/cross_view.json")
    complains("report", "views")


def test_results_of_two_kinds(complains: Complains) -> None:
    across_views()
    Path("views/results.json").write_text("{}")
    complains("report", "views")


def test_archive_beside_silhouettes(complains: Complains) -> None:
    across_views()
    complains("report", "views", "--archive", "walks.sga")


def test_another_file_than_a_study(complains: Complains) -> None:
    Path("study.json").write_text('{"rows": []}')
    complains("report", "study.json")


def test_study_that_does_not_exist(complains: Complains) -> None:
    across_views()
    complains("report", "views", "--low_label", "study.json")


def test_archive_of_another_store(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    inputs.archive("other.sga", frames=30)
    complains("report", "figures", "--archive", "other.sga")


def test_run_folder_without_a_history(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    Path("run").mkdir()
    complains("report", "figures", "--runs", "run")


def test_history_of_a_run_cut_off(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    inputs.take("run")
    inputs.cut("run/history.json")
    complains("report", "figures", "--runs", "run")


def test_probes_that_a_reproduction_has_lost(complains: Complains) -> None:
    folder = ResultsFolder("reproduced")
    cell = CellResult("c", "1", "r", "R", "kgbd", protocol="G", figures={"rank1": 50.0}, probes_file="probes/p.npz")
    folder.append([cell])
    folder.write_index({})
    complains("report", "reproduced")


def test_map_of_too_few_points(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    complains("report", "figures", "--points", "2")


def test_page_without_its_template_engine(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    inputs.monkeypatch.setitem(sys.modules, "jinja2", None)
    complains("report", "figures", "--projection", "pca")


def test_map_without_scikit_learn(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    inputs.monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    complains("report", "figures")


def test_page_into_a_folder_that_does_not_exist(inputs: Any, complains: Complains) -> None:
    evaluated(inputs)
    complains("report", "figures", "--projection", "pca", "-o", "nowhere/report.html")
