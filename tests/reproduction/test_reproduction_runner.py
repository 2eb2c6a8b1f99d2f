"""Running a plan: resumed exactly, within a budget, with encoders from elsewhere, past failing cells."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sgela_fast.checkpoints.run_folder import load_run, read_info
from sgela_fast.cli.main import main
from sgela_fast.errors import DataError, Interrupted, OutputError
from sgela_fast.reproduction.cells import EncoderSpec, StoreSpec, Work
from sgela_fast.reproduction.config import JobConfig, ReproductionConfig
from sgela_fast.reproduction.costs import Costs, Part
from sgela_fast.reproduction.encoders import Encoders
from sgela_fast.reproduction.measure import Measured, Workshop
from sgela_fast.reproduction.results import RESULTS, CellResult, ResultsFolder
from sgela_fast.reproduction.runner import Report, Runner, reproduce
from sgela_fast.reproduction.workers import InProcess
from sgela_fast.training.trainer import train

Settings = Callable[..., ReproductionConfig]
FEW = ("3b", "size")  # tables that take four encoders and nothing else


@pytest.fixture(scope="module")
def whole(walks: tuple[str, str], settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Table 2 and the figures, run through at once."""
    config = settings(tables=("2", "3a", "3b", "size"))
    return reproduce(walks[:1], tmp_path_factory.mktemp("whole") / "out", config)


def shown(cells: list[CellResult]) -> dict[str, Any]:
    """What two runs must agree in: all but times."""
    return {
        cell.cell: (cell.figures, cell.recordings, cell.values, cell.training and cell.training["curve"])
        for cell in cells
    }


def hashes(out: Path) -> dict[str, str]:
    return {path.name: load_run(path).model_hash for path in sorted((out / "encoders").iterdir())}


def test_everything_is_done_and_written_down(whole: Report) -> None:
    assert not whole.failed
    assert not whole.left
    folder = ResultsFolder(whole.out)
    assert shown(folder.read()) == shown(whole.cells)
    index = folder.read_index()
    assert index["steps"] == 4
    assert {item["name"] for item in index["datasets"]} == {"one"}
    assert {claim["claim"] for claim in index["claims"]} >= {"las-over-bas", "over-untrained", "ages-over-states-las"}
    assert "| GE, GD, Rev., LAS, AGEs | 59.1 | 86.5 |" in (whole.out / "tables.md").read_text()
    table = pq.read_table(whole.out / "results.parquet")
    assert table["cell"].to_pylist() == [cell.cell for cell in whole.cells]


def test_figures_follow_from_the_probes(whole: Report) -> None:
    folder = ResultsFolder(whole.out)
    cells = [cell for cell in whole.cells if cell.protocol]
    assert len(cells) == 2 * 14
    for cell in cells:
        probes = folder.read_probes(cell)
        assert len(probes) == cell.probes
        assert cell.figures["rank1"] == pytest.approx(100 * np.mean(probes.rank <= 1))
        assert len(probes.persons) == cell.persons == 3


def test_encodings_are_gone_at_the_end_and_encoders_took_equal_steps(whole: Report) -> None:
    assert list((whole.out / "stores").iterdir()) == []
    infos = [read_info(path) for path in (whole.out / "encoders").iterdir()]
    assert len(infos) == 9
    assert {(info["state"], info["step"]) for info in infos} == {("finished", 4), ("untrained", 0)}


def test_figures_of_encoders_are_what_they_say(whole: Report) -> None:
    cells = {cell.cell: cell for cell in whole.cells}
    matrices = np.array(cells["figure3a/one/las/split/seed0"].values["attention"])
    assert matrices.shape == (3, 6, 6)
    assert np.allclose(matrices.sum(axis=-1), 1, atol=1e-4)
    curve = cells["figure3b/one/none/split/seed0"].training
    assert curve is not None
    assert [entry[0] for entry in curve["curve"]] == [1, 2, 3, 4]
    size = cells["size/las"].values
    weights = load_run(whole.out / "encoders" / "one-las-reverse-f6-split-seed0").model
    assert size["parameters"] == sum(parameter.numel() for parameter in weights.parameters())


def test_a_run_that_was_stopped_twice_ends_with_the_same_figures(
    whole: Report, walks: tuple[str, str], out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tables=("2", "3a", "3b", "size"))
    told = False

    def terminate_in_training(units: int = 1, *, note: str = "") -> None:
        nonlocal told
        if "bas-reverse" in note and "L_R" in note and not told:
            told = True
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="go on with the same command"):
        reproduce(walks[:1], out, config, progress=terminate_in_training)
    assert read_info(out / "encoders" / "one-bas-reverse-f6-split-seed0")["state"] == "interrupted"
    before = len(ResultsFolder(out).read())
    assert 0 < before < len(whole.cells)

    measure = Workshop.measure

    def crash(self: Workshop, work: Work) -> Any:
        if work.kind == "recognition" and "mbas-plain" in work.name:
            raise KeyboardInterrupt
        return measure(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "measure", crash)
        with pytest.raises(Interrupted):
            reproduce(walks[:1], out, config)
    lines = (out / RESULTS).read_bytes()
    assert lines.count(b"\n") > before
    (out / RESULTS).write_bytes(lines[:-40])  # the last line is torn, as by a power cut
    report = reproduce(walks[:1], out, config)
    assert report.done == len(whole.cells) - lines.count(b"\n") + 1
    assert shown(report.cells) == shown(whole.cells)
    assert hashes(out) == hashes(whole.out)

    again = reproduce(walks[:1], out, config)
    assert (again.done, len(again.cells)) == (0, len(whole.cells))


def test_a_failing_cell_is_noted_and_the_others_are_done(
    walks: tuple[str, str],
    out: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(tables=FEW)
    curve = Workshop._curve

    def fail(self: Workshop, work: Work) -> Measured:
        assert work.encoder is not None
        if work.encoder.attention == "bas":
            raise DataError("the walks are lame; let them rest")
        if work.encoder.attention == "mbas":
            raise RuntimeError("a bug")
        return curve(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "_curve", fail)
        report = reproduce(walks[:1], out, config)
    assert report.failed == {
        "figure3b/one/bas/split/seed0": "the walks are lame; let them rest",
        "figure3b/one/mbas/split/seed0": "RuntimeError: a bug",
    }
    assert [cell.row for cell in report.cells if cell.table == "figure3b"] == ["none", "las"]
    noted = json.loads((out / "failures.json").read_text())
    assert {item["cell"]: item["error"] for item in noted} == report.failed
    report = reproduce(walks[:1], out, config)
    assert (report.done, report.failed) == (2, {})
    assert json.loads((out / "failures.json").read_text()) == []


def fixed_costs(self: Costs, part: Part) -> float:
    if isinstance(part, EncoderSpec):
        return 100.0 if part.trained else 1.0
    return 10.0 if isinstance(part, StoreSpec) else 20.0


def test_a_budget_is_spent_on_what_tells_most_and_not_overdrawn(
    walks: tuple[str, str], out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costs, "estimate", fixed_costs)
    begun: list[Part] = []
    begin = InProcess.begin

    def note(self: InProcess, part: Part, budget_seconds: float | None) -> None:
        begun.append(part)
        begin(self, part, budget_seconds)

    monkeypatch.setattr(InProcess, "begin", note)
    spent = Costs.estimate
    monkeypatch.setattr(Runner, "_left", lambda self: 180.0 - sum(spent(self.costs, part) for part in begun))
    # A trained encoder, its encodings and two measurements take 150; what is left is enough for a baseline alone.
    report = reproduce(walks[:1], out, settings(tables=("2",)), JobConfig(budget="180s"))
    assert [part.name for part in begun] == [
        "one-las-reverse-f6-split-seed0",
        "one-las-reverse-f6-split-seed0-of-one-ages",
        "recognition-one-las-reverse-f6-split-seed0-of-one-ages-on-one-split-seed0-validation",
        "retrieval-one-las-reverse-f6-split-seed0-of-one-ages-on-one-split-seed0",
        "baseline-ge-supervised-on-one-split-seed0-validation",
    ]
    assert report.done == 4
    assert len(report.left) == len(Runner(walks[:1], out, settings(tables=("2",))).cells) - 4
    looked = Runner(walks[:1], out / "fresh", settings(tables=("2",)), JobConfig(budget="100s")).outlook()
    assert {item.fits for item in looked} == {False, True}
    assert all(item.until <= 100 for item in looked if item.fits)
    assert {item.cell.split("/")[2].partition("-")[0] for item in looked if item.fits} == {"untrained", "ge"}


def test_a_budget_gives_all_encoders_the_same_steps(
    walks: tuple[str, str], out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoders, "step_seconds", 0.5)
    config = settings(tables=("3b",), training={"max_steps": 0})
    runner = Runner(walks, out, config, JobConfig(budget="1h", training_share=0.5))
    assert runner.encoders.steps == 450  # 1800 s for 8 encoders at half a second
    steps = {runner.encoders.settings(cell.work.encoder)[2].max_steps for cell in runner.cells if cell.work.encoder}
    assert steps == {450}


def test_encoders_trained_elsewhere_are_taken_where_they_fit(
    walks: tuple[str, str], out: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tables=("3b",), training={"max_steps": 0})
    kinds = {"las": {}, "bas": {"seed": 1}, "mbas": {"max_steps": 3}, "none": {}}
    for attention, changes in kinds.items():
        training = replace(config.training, **{"max_steps": 5, "threads": 2, "log_every": 5, **changes})
        model = replace(config.model, attention=attention)  # type: ignore[arg-type]
        train(walks[0], tmp_path / "runs" / "deep" / attention, model, training=training)
    trained: list[str] = []
    original = Encoders.train

    def note(self: Encoders, spec: EncoderSpec, *arguments: Any) -> Any:
        trained.append(spec.attention)
        return original(self, spec, *arguments)

    monkeypatch.setattr(Encoders, "train", note)
    said: list[str] = []
    report = reproduce(walks[:1], out, config, JobConfig(encoders=(str(tmp_path / "runs"),)), announce=said.append)
    assert sorted(trained) == ["bas", "mbas"]
    assert any("las-reverse-f6-split-seed0: taken from" in line for line in said)
    steps = {cell.row: (cell.training or {})["steps"] for cell in report.cells}
    assert steps == {"none": 5, "bas": 5, "mbas": 5, "las": 5}
    adopted = {item["encoder"] for item in ResultsFolder(out).read_index()["encoders"] if "adopted_from" in item}
    assert adopted == {"one-las-reverse-f6-split-seed0", "one-none-reverse-f6-split-seed0"}
    assert load_run(out / "encoders" / "one-las-reverse-f6-split-seed0").model_hash == (
        load_run(tmp_path / "runs" / "deep" / "las").model_hash
    )


def test_baselines_fill_table_1_under_both_protocols(
    walks: tuple[str, str], out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rows with networks are tested where they are made.
    monkeypatch.setattr("sgela_fast.reproduction.cells.BASELINES", {"d13-knn": _baseline("d13-knn")})
    monkeypatch.setattr("sgela_fast.reproduction.cells.FURTHER", ())
    report = reproduce(walks[:1], out, settings(tables=("1",), selections=("validation", "best-on-test")))
    cells = {(cell.row, cell.protocol, cell.selection): cell for cell in report.cells}
    kinds = (("C", "validation"), ("C", "best-on-test"), ("G", "none"))
    assert cells.keys() == {(row, *kind) for row in ("d13-knn", "ours", "untrained") for kind in kinds}
    for kind in kinds:
        assert cells["d13-knn", *kind].probes == cells["ours", *kind].probes
        assert cells["d13-knn", *kind].trained_on is None
    assert cells["untrained", "G", "none"].training is None


def _baseline(name: str) -> Any:
    from sgela_fast.baselines.registry import get_baseline

    return get_baseline(name)


def test_transferred_encoders_are_those_of_the_other_set(walks: tuple[str, str], out: Path, settings: Settings) -> None:
    report = reproduce(walks, out, settings(tables=("3",), protocols=("G",)))
    assert len(report.cells) == 8
    cells = {cell.cell: cell for cell in report.cells}
    moved = cells["table3/two/las-transfer-from-one/split/seed0/G"]
    assert (moved.dataset, moved.trained_on) == ("two", "one")
    assert sorted(path.name for path in (out / "encoders").iterdir()) == [
        f"{data}-{kind}-reverse-f6-split-seed0" for data in ("one", "two") for kind in ("bas", "las")
    ]
    claims = {claim["claim"] for claim in report.claims}
    assert claims == {f"transfer-{kind}-from-{data}" for kind in ("bas", "las") for data in ("one", "two")}


def test_several_processes_find_the_same(whole: Report, walks: tuple[str, str], out: Path, settings: Settings) -> None:
    report = reproduce(walks[:1], out, settings(tables=FEW), JobConfig(jobs=2))
    assert shown(report.cells) == {
        name: entry for name, entry in shown(whole.cells).items() if name.startswith(("figure3b", "size"))
    }


def test_a_folder_is_kept_to_its_settings_and_may_be_asked_for_more(
    walks: tuple[str, str], out: Path, settings: Settings
) -> None:
    assert reproduce(walks[:1], out, settings(tables=("size",))).done == 1
    with pytest.raises(OutputError, match=r"model\.hidden = 4, not 8"):
        reproduce(walks[:1], out, settings(model=replace(settings().model, hidden=8)))
    with pytest.raises(OutputError, match="trained for 4 steps, not 6 steps"):
        reproduce(walks[:1], out, settings(training={"max_steps": 6}))
    with pytest.raises(OutputError, match="other recordings called 'one'"):
        reproduce([f"one={walks[1]}"], out, settings())
    runner = Runner(walks, out, settings(tables=("size", "2"), seeds=(0, 1)), JobConfig(jobs=2))
    assert len(runner.pending) == len(runner.cells) - 1


def test_a_dry_run_prints_the_plan_and_does_nothing(
    walks: tuple[str, str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--model.hidden", "4", "--training.max_steps", "4", "--training.device", "cpu"]
    arguments = ["reproduce", "--data", walks[0], "--out", str(out), "--tables", "2,size", *small]
    assert main([*arguments, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "every encoder is trained for 4 steps" in printed
    lines = printed.splitlines()
    first, second = (
        next(line for line in lines if line.endswith(f"las-reverse-{feature}/split/seed0/C-validation")).split()
        for feature in ("ages", "states")
    )
    assert first[-3:] == ["encoder,", "store", "table2/one/las-reverse-ages/split/seed0/C-validation"]
    assert second[-2] == "store"  # the encoder is there by then
    assert max(map(len, lines)) <= 100
    assert "9 encoders" in lines[-1]
    assert main([*arguments, "--dry_run", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert cells[0]["cell"] == "size/las"
    assert not out.exists()


def test_the_command_prints_tables_or_json(
    walks: tuple[str, str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "--data", walks[0], "--out", str(out), "--tables", "size", "--training.device", "cpu"]
    assert main(arguments) == 0
    assert "6,245,436" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["values"]["parameters"] == 6_245_436
    assert cell["published"]["parameters_millions"] == 7.15
