"""`sgela-fast index` and `search` print what was found and how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store_writer import StoreWriter


@pytest.fixture
def store(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    centres = random.standard_normal((6, 8))
    writer = StoreWriter(
        tmp_path / "walks", {"pooling": "mean", "dtype": "float32", "frames": 6, "dim": 8, "model_hash": "0"}
    )
    for person in range(6):
        for walk in range(3):
            columns = {
                "recording": [f"p{person}_{walk}"] * 4,
                "person": [f"p{person}"] * 4,
                "window_start": [0, 6, 12, 18],
                "frames": [6] * 4,
                "valid": [True] * 4,
                "split": ["test" if walk == 0 else "train"] * 4,
            }
            writer.add((centres[person] + 0.1 * random.standard_normal((4, 8))).astype(np.float32), columns)
    writer.finish()
    return str(tmp_path / "walks")


def test_persons_are_listed_best_first(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", store, "--query", "p2_0", "--level", "person", "-k", "3"]) == 0
    printed = capsys.readouterr().out
    assert "persons of" in printed
    assert "cosine, exact" in printed
    first = next(line for line in printed.splitlines() if "│    1 │" in line)
    assert "p2" in first.replace("p2_0", "")


def test_conditions_add_up(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", store, "--query", "p2_0", "--json", "--where", "split=train", "--where", "window_start=6..12"]
    assert main([*command, "--person", "p2,p3", "-k", "20"]) == 0
    found = json.loads(capsys.readouterr().out)
    hits = [hit for query in found["queries"] for hit in query["hits"]]
    assert [len(query["hits"]) for query in found["queries"]] == [8] * 4
    assert {hit["person"] for hit in hits} == {"p2", "p3"}
    assert {hit["split"] for hit in hits} == {"train"}
    assert {hit["window_start"] for hit in hits} == {6, 12}


def test_an_index_shows_its_recall(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", store, "--kind", "ivf", "--lists", "2"]) == 0
    printed = capsys.readouterr().out
    assert "kind      ivf, cosine of 8 features, 72 windows" in printed
    assert "recall@10" in printed
    assert main(["search", store, "--query", "p2_0"]) == 0
    assert "ivf (recall@10" in capsys.readouterr().out
    assert main(["search", store, "--query", "p2_0", "--exact"]) == 0
    assert "cosine, exact" in capsys.readouterr().out


def test_a_calibrated_search_names_the_false_match_rate(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate = ["index", store, "--calibrate", "split=test", "--calibration.false_match_rate", "0.2"]
    assert main([*calibrate, "--calibration.resamples", "20"]) == 0
    assert "of 6 searches without the own person would name somebody" in capsys.readouterr().out
    rows = Path(store, "index", "rows.npy")
    before = rows.stat().st_mtime_ns
    assert main(calibrate) == 0
    assert "is there already" in capsys.readouterr().err
    assert rows.stat().st_mtime_ns == before
    search = ["search", store, "--query", "p2_0", "--level", "recording", "--unknown"]
    assert main([*search, "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["queries"][0]["known"] is True
    assert known["false_match_rate"] == 0.2
    assert main([*search, "--where", "person!=p2"]) == 0
    assert "unknown: 1 of 1 queries stay below" in capsys.readouterr().out


def test_calibrating_keeps_the_index_that_is_there(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", store, "--kind", "ivf", "--lists", "2", "--metric", "euclidean"]) == 0
    faiss = Path(store, "index", "index.faiss")
    before = faiss.stat().st_mtime_ns
    calibrate = ["index", store, "--calibrate", "split=test", "--calibration.false_match_rate", "0.2"]
    calibrate += ["--calibration.resamples", "0"]
    assert main(calibrate) == 0
    assert faiss.stat().st_mtime_ns == before
    assert "is there already" in capsys.readouterr().err
    assert main([*calibrate, "--metric", "inner-product"]) == 0
    assert not faiss.exists()


def test_a_file_of_encodings_is_searched_for(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "query.npy", np.load(Path(store) / "part-00000.npy")[:2])
    assert main(["search", store, "--query", str(tmp_path / "query.npy"), "--json", "-k", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [query["hits"][0]["window"] for query in found["queries"]] == [0, 1]


def test_nothing_that_fits_is_no_error(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", store, "--query", "p2_0", "--person", "nobody"]) == 0
    assert "nothing fits" in capsys.readouterr().out
    assert main(["search", store, "--query", "p2_0", "--person", "nobody", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"][0]["hits"] == []


def test_ranking_anew_is_said(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", store, "--query", "p2_0", "--rerank", "--reranking.neighbours", "6", "-k", "2"]) == 0
    assert "exact, re-ranked" in capsys.readouterr().out
