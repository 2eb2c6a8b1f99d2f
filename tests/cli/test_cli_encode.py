"""`sgela-fast encode` makes stores and refuses what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store import Store
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.walker import write_walkers


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("encode") / "walks.sga"
    write_walkers(path, WalkerConfig(persons=2, walks=2, min_frames=40, max_frames=50))
    return str(path)


def test_an_untrained_encoder_reads_windows_as_asked(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "store"
    assert main(["encode", archive, "--untrained", "paper", "--out", str(out), "--window.center", "head"]) == 0
    store = Store(out)
    assert store.info["window"]["center"] == "head"
    assert store.info["model"]["variant"] == "paper"
    assert f"windows     {len(store):,} of 6 x 768 float32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either --model RUN or --untrained VARIANT"),
        (["--model", "run", "--untrained", "official"], "give either --model RUN or --untrained VARIANT"),
        (["--model", "run", "--window.trim", "3"], "window settings are for --untrained"),
        (["--untrained", "best"], "untrained is 'best'"),
        (["--untrained", "official", "--encoding.dtype", "float8"], "encoding.dtype is 'float8'"),
    ],
)
def test_contradictions_get_one_sentence(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["encode", archive, "--out", str(tmp_path / "store"), *arguments]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert sentence in printed[0]
    assert not (tmp_path / "store").exists()
