"""The job: results, files, several stores, splits and seeds, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError, MissingDependencyError
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.evaluation.evaluate import count_runs, evaluate
from sgela_fast.evaluation.results import Figures, Outcome, Row, StoreResult, summarise

MakeStore = Callable[..., Store]
QUICK = ["--recognition.max_epochs", "3", "--recognition.batch", "16", "--recognition.hidden", "8", "--resamples", "20"]


def configured(protocol: str = "both", splits: tuple[str, ...] = ("split",), **recognition: Any) -> EvaluationConfig:
    quick = {"max_epochs": 3, "batch": 16, "hidden": 8}
    network = RecognitionConfig(**{**quick, **recognition})
    return EvaluationConfig(protocol=protocol, splits=splits, resamples=20, recognition=network)  # type: ignore[arg-type]


def test_results_say_where_they_come_from(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    evaluate([store.path], configured(), out=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (content["schema"], content["version"]) == ("sgela-fast/evaluation", 1)
    assert content["settings"]["recognition"]["selection"] == "validation"
    assert content["settings"]["recognition"]["seeds"] == [0]
    assert {"sgela_fast", "torch", "numpy", "scikit-learn", "scipy"} == set(content["versions"])
    outcomes = content["stores"][0]["outcomes"]
    assert [outcome["protocol"] for outcome in outcomes] == ["C", "G"]
    for outcome in outcomes:
        assert (outcome["persons"], outcome["probe_windows"], outcome["gallery_windows"]) == (6, 36, 72)
        assert outcome["chance"] == pytest.approx(1 / 6)
        assert len(outcome["windows"]["cmc"]) == 6
    assert len(content["summary"]) == 4


def test_plots_are_png_files_and_can_be_left_out(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    evaluate([store.path], configured(max_epochs=1), out=tmp_path / "out")
    plots = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert plots == [
        "cmc_C_recordings.png", "cmc_C_windows.png", "cmc_G_recordings.png", "cmc_G_windows.png", "distances.png"
    ]  # fmt: skip
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in plots)
    evaluate([store.path], configured("G"), out=tmp_path / "bare", plots=False)
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == ["probes", "results.json"]


def test_a_single_store_needs_no_list(make_store: MakeStore) -> None:
    store = make_store()
    assert len(evaluate(str(store.path), configured("G")).stores) == 1


def test_every_store_split_and_seed_has_its_outcome(make_store: MakeStore) -> None:
    stores = [make_store("one"), make_store("two", seed=1)]
    config, done = configured(splits=("split", "split_2"), seeds=(3, 4), max_epochs=1), []
    result = evaluate([s.path for s in stores], config, progress=lambda units=1, *, note="": done.append(units))
    assert sum(done) == count_runs(2, config) == 12
    assert [store.store for store in result.stores] == ["one", "two"]
    seen = [(o.protocol, o.split, o.seed) for o in result.stores[0].outcomes]
    assert seen == [
        (protocol, split, seed)
        for split in ("split", "split_2")
        for protocol, seed in (("C", 3), ("C", 4), ("G", None))
    ]


def figures(rank1: float) -> Figures:
    return Figures(probes=1, rank={1: rank1}, cmc=[rank1], nauc_cmc=rank1, nauc_roc=rank1)


def summary_of(runs: list[tuple[str, int, float]]) -> Row:
    outcomes = [
        Outcome("C", split, seed, "", 2, 1, 1, 0.5, {}, (), figures(rank1), figures(rank1))
        for split, seed, rank1 in runs
    ]
    from sgela_fast.evaluation.results import EvaluationResult

    return summarise(EvaluationResult({}, {}, None, [StoreResult("s", None, outcomes)]))[0]


def test_one_run_has_no_deviation() -> None:
    assert summary_of([("a", 0, 0.5)]).cell("rank1") == "50.0"


def test_seeds_of_one_split_spread() -> None:
    assert summary_of([("a", 0, 0.4), ("a", 1, 0.6)]).cell("rank1") == "50.0 ± 14.1"


def test_over_splits_the_deviation_is_that_of_their_means() -> None:
    row = summary_of([("a", 0, 0.1), ("a", 1, 0.9), ("b", 0, 0.3), ("b", 1, 0.7)])
    assert row.cell("rank1") == "50.0 ± 0.0"
    assert row.figures["rank1"].runs == 4
    assert row.cell("mean_average_precision") == "-"


def test_a_wrong_column_is_told_before_the_first_run(make_store: MakeStore, tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(DataError, match="has no column 'camera'"):
        evaluate(
            [make_store().path],
            configured(splits=("split", "camera")),
            out=tmp_path / "out",
            progress=lambda units=1, *, note="": done.append(units),
        )
    assert not done
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_told_before_the_first_run(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgela_fast.evaluation.evaluate.find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError,
        match=r'evaluation needs sklearn, scipy; install it with pip install "sgela_fast\[eval\]"',
    ):
        evaluate([make_store().path], configured())


def test_a_store_given_twice_is_refused(make_store: MakeStore) -> None:
    store = make_store()
    with pytest.raises(ConfigError, match="given twice"):
        evaluate([store.path, store.path], configured("G"))


def test_command_prints_tables_and_writes_beside_the_store(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    las, bas = make_store("las"), make_store("bas", noise=1.0)
    before = sorted(path.name for path in las.path.iterdir())
    assert main(["evaluate", str(las.path), str(bas.path), *QUICK]) == 0
    out, err = capsys.readouterr()
    for text in ("Protocol C", "Protocol G", "held-out training recordings", "las", "bas", "Rank-1", "mAP", "chance"):
        assert text in " ".join(out.split())
    assert "results.json" in err
    assert sorted(path.name for path in las.path.iterdir()) == before
    assert (las.path.with_name("las.evaluation") / "results.json").exists()


def test_best_on_test_is_labelled_in_every_output(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    titles: list[str] = []
    monkeypatch.setattr("sgela_fast.evaluation.evaluate.plot_cmc", lambda curves, title, path: titles.append(title))
    arguments = ["evaluate", str(make_store().path), "--protocol", "C", "--recognition.selection", "best-on-test"]
    out = tmp_path / "out"
    assert main([*arguments, *QUICK, "--out", str(out)]) == 0
    assert "BEST ON TEST" in capsys.readouterr().out
    assert main([*arguments, *QUICK, "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for content in (printed, json.loads((out / "results.json").read_text())):
        assert "BEST ON TEST" in content["stores"][0]["outcomes"][0]["selection"]
        assert all("BEST ON TEST" in row["selection"] for row in content["summary"])
    assert titles
    assert all("BEST ON TEST" in title for title in titles)


def test_command_passes_its_arguments_on(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    gallery, probes = make_store("gallery"), make_store("probes", info={"archive_fingerprint": "b"})
    arguments = ["evaluate", str(probes.path), "--train", str(gallery.path), "--splits", "", "--protocol", "both"]
    arguments += [*QUICK, "--json", "--no-plots", "--recognition.seeds", "[1,2]", "--retrieval.distance", "cosine"]
    assert main(arguments) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["train_store"] == str(gallery.path)
    assert content["settings"]["recognition"]["seeds"] == [1, 2]
    outcomes = content["stores"][0]["outcomes"]
    assert [outcome["seed"] for outcome in outcomes] == [1, 2, None]
    assert outcomes[2]["details"]["distance"] == "cosine"
    assert {outcome["probe_windows"] for outcome in outcomes} == {108}


def test_command_says_what_was_left_out(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(change=lambda columns: columns.update(valid=[i % 6 > 0 for i in range(108)]))
    assert main(["evaluate", str(store.path), "--protocol", "G", *QUICK]) == 0
    assert "note: store, split: 18 windows with a lost joint left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--splits", "camera"], 1, "has no column 'camera', only window, recording, person"),
        (["--splits", "split,split"], 2, "name one or more different columns"),
        (["--recognition.seeds", "[0,0]"], 2, "give different whole numbers"),
        (["--test_value", "train"], 2, "give two different values"),
        (["--confidence", "1.5"], 2, "it must be between 0 and 1"),
    ],
)
def test_command_answers_mistakes_with_one_sentence(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert main(["evaluate", str(make_store().path), *QUICK, *arguments]) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
