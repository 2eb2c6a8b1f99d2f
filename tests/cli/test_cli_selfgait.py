"""``sgela-fast train --system selfgait`` as a user runs it: pre-train, fine-tune, probe, encode."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from sgela_fast.checkpoints.selfgait_run import load_selfgait
from sgela_fast.cli.main import main
from sgela_fast.encoding.store import Store
from tests.silhouette_bars import bars, pack

SIZES = ["--selfgait.channels", "[2, 4, 4]", "--selfgait.bins", "[1, 2]", "--selfgait.embedding", "6"]
SIZES += ["--clips.frames", "5", "--clips.crop", "8", "--clips.shrink", "4"]
STEPS = ["--selfgait_training.persons", "3", "--selfgait_training.clips", "2", "--selfgait_training.max_steps", "2"]
STEPS += ["--selfgait_training.threads", "1", "--selfgait_training.device", "cpu"]


@pytest.fixture(scope="module")
def silhouettes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(pack(bars(spread=2), tmp_path_factory.mktemp("silhouettes") / "bars"))


def train(silhouettes: str, out: Path, *arguments: str) -> int:
    return main(["train", silhouettes, "--system", "selfgait", "--out", str(out), *arguments])


def test_pretraining_fine_tuning_and_probing(
    silhouettes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pre, fine, probe = (tmp_path / name for name in ("pre", "fine", "probe"))
    assert train(silhouettes, pre, *SIZES, *STEPS) == 0
    assert "pretrain finished after 2 steps\nloss " in capsys.readouterr().out
    assert train(silhouettes, fine, *STEPS, "--from", str(pre), "--labels", "0.75") == 0
    assert "finetune finished after 2 steps" in capsys.readouterr().out
    assert load_selfgait(fine).info["training"]["labels"] == 0.75
    assert train(silhouettes, probe, "--from", str(fine), "--stage", "probe") == 0
    assert "linear probe of 4 persons: " in capsys.readouterr().out
    found = json.loads((probe / "probe.json").read_text())
    assert (found["fitted"], found["tested"], found["chance"]) == (32, 16, 0.25)
    assert set(found["by_condition"]) == {"nm", "cl"}
    # Bars differ by person alone, so that a classifier of four must find them.
    assert found["accuracy"] > 0.8


def test_encode_sees_by_the_run_that_it_reads_silhouettes(
    silhouettes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, store = str(tmp_path / "run"), tmp_path / "store"
    assert train(silhouettes, tmp_path / "run", *SIZES, *STEPS) == 0
    command = ["encode", silhouettes, "--model", run, "--out", str(store), "--encoding.device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "sequences   48 of 3 strips x 6 channels float32" in printed
    assert re.search(r"time .* sequences/s", printed)
    assert "window" not in printed
    assert Store(store).table["view"].to_pylist()[:2] == ["000", "090"]
    assert main([*command, "--dry-run"]) == 2
    assert "--dry-run is for skeletons" in capsys.readouterr().err


def test_config_yaml_of_a_run_trains_the_same_again(silhouettes: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert train(silhouettes, one, *SIZES, *STEPS) == 0
    assert yaml.safe_load((one / "config.yaml").read_text())["system"] == "selfgait"
    assert main(["train", silhouettes, "--config", str(one / "config.yaml"), "--out", str(other)]) == 0
    assert load_selfgait(one).model_hash == load_selfgait(other).model_hash


def test_from_drawn_silhouettes_to_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    pytest.importorskip("jinja2", reason="Jinja2 is not installed")
    monkeypatch.chdir(tmp_path)
    drawn = ["--views", "036,090", "--conditions", "nm-01,nm-05,cl-01", "--render.persons", "3"]
    assert main(["silhouettes", "render", "drawn", *drawn, "--render.frames", "6"]) == 0
    assert train("drawn", Path("pre"), *SIZES, *STEPS) == 0
    assert train("drawn", Path("fine"), *STEPS, "--from", "pre", "--selfgait_training.persons", "2") == 0
    assert main(["encode", "drawn", "--model", "fine", "--out", "embeddings", "--encoding.device", "cpu"]) == 0
    assert main(["evaluate", "embeddings", "--protocol", "casia-b", "--out", "views", "--resamples", "20"]) == 0
    assert main(["report", "views", "-o", "views.html", "--projection", "pca"]) == 0
    content = json.loads(Path("views/cross_view.json").read_text())
    page = Path("views.html").read_text()
    for kind in content["stores"][0]["kinds"]:
        assert kind["kind"] in ("NM", "CL")
        for value in kind["by_probe_view"]:
            assert f'<td class="number">{100 * value:.1f}</td>' in page
    assert "18 of 18 sequences of embeddings" in page
    assert "Spread of the embeddings" in page  # the run that the store names is found, and its training drawn


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model.hidden", "8"], "model is a setting of --system sge-la but --system is selfgait; leave it out"),
        (["--preset", "paper"], "--preset is a setting of --system sge-la but --system is selfgait; leave it out"),
        (["--stage", "probe"], "--stage probe needs a model; name its run folder with --from"),
        (["--system", "sge-la", "--labels", "0.5"], "--labels is a setting of --system selfgait but"),
        (["--system", "sge-la", "--clips.frames", "5"], "clips is a setting of --system selfgait but"),
        (["--stage", "pretrain", "--from", "run"], "--from is for fine-tuning and probing"),
    ],
)
def test_settings_of_the_other_system_are_refused(
    silhouettes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert train(silhouettes, tmp_path / "run", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
