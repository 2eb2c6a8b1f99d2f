"""The study of few labels: it runs, goes on where it was, and refuses other settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgela_fast.benchmarks.selfgait_low_label import interval, main
from sgela_fast.report.labels import label_curves, read_study

TINY = "--persons 6 --train 4 --views 090 126 --frames 6 --clip 4 --shrink 4 --channels 2 4 4 --bins 1 2 --embedding 4"
TINY += " --batch_persons 2 --batch_clips 2 --pretrain_steps 1 --finetune_steps 1 --labels 1"


def test_a_study_is_gone_on_with_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path / "result"), "--work", str(tmp_path / "work"), *TINY.split()]
    main([*arguments, "--seeds", "1"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("4 of 4: pretrained-1-seed0: NM ")
    cells = tmp_path / "work" / "cells.jsonl"
    kept = cells.read_text().splitlines()
    cells.write_text("\n".join(kept[:3]) + '\n{"cell": "cut o')  # the last line was being written
    main([*arguments, "--seeds", "1"])
    assert capsys.readouterr().err.splitlines() == [f"4 of 4: {line_of(kept[3])}"]
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["labels"] for row in result["rows"]] == [0.0, 1.0]
    row = result["rows"][1]
    for kind in ("NM", "BG", "CL"):
        assert row[kind]["gain"]["mean"] == pytest.approx(
            row[kind]["pretrained"]["mean"] - row[kind]["scratch"]["mean"]
        )
    study = read_study(tmp_path / "result.json")  # which the page of results draws
    assert (study.kinds, study.seeds, study.tested) == (["NM", "BG", "CL", "mean"], 1, 2)
    assert len(label_curves(study).parts) == 5
    assert "| 100% | 4 | " in (tmp_path / "result.md").read_text()
    with pytest.raises(SystemExit, match="holds a study with other settings"):
        main([*arguments, "--frames", "7"])


def line_of(cell: str) -> str:
    """What is said of a finished cell."""
    found = json.loads(cell)
    return f"{found['cell']}: " + ", ".join(f"{kind} {share:.1%}" for kind, share in found["rank1"].items())


def test_an_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2
    assert found["half"] == pytest.approx(4.302653 / 3**0.5)
    assert interval([5.0])["half"] is None
