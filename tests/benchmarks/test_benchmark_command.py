"""The command line of the benchmarks, as a module and as a sub-command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sgela_fast.benchmarks.harness import command, environment
from sgela_fast.benchmarks.harness.arguments import SUITES, Choice
from sgela_fast.benchmarks.harness.command import build
from sgela_fast.cli.main import main


def test_the_list_names_every_suite_and_its_providers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    printed = capsys.readouterr().out
    for name in SUITES:
        assert f"{name}: " in printed
    assert "ONNX Runtime" in printed
    assert "forward, float32 inputs: B = 1, 8, " in printed


def test_the_list_of_one_suite_names_the_cases_that_can_be_selected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "batched_lstm", "--list"]) == 0
    cases = build("batched_lstm", Choice("cpu", "standard", "ieee", ())).cases
    printed = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in printed[2:]] == [case.name for case in cases]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "there is no suite 'nothing'; choose of locality_attention"),
        (["encoding", "--threads", "0"], "--threads is 0; give 1 to"),
        (["encoding", "--sizes", "0"], "--sizes holds a number below 1"),
        (["encoding", "--precision", "tf32"], "--precision tf32 exists on CUDA alone"),
        (["encoding", "--select", "("], "--select is no regular expression"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["bench", *words, "--no_memory", "--out", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.count("\n") == 1


def test_cuda_without_a_device_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["bench", "encoding", "--device", "cuda"]) == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err


def test_a_suite_that_fails_is_reported_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def build(name: str, _choice: object) -> Any:
        if name == "batched_lstm":
            raise RuntimeError("no such thing")
        return SimpleNamespace(name=name, cases=(1,))

    monkeypatch.setattr(command, "build", build)
    monkeypatch.setattr(command, "_select", lambda suite, _args: suite)
    monkeypatch.setattr(command, "_measure", lambda suite, *_: ran.append(suite.name))
    monkeypatch.setattr(environment, "set_up", lambda *_: None)
    assert main(["bench", "batched_lstm", "encoding", "--out", str(tmp_path)]) == 1
    assert ran == ["encoding"]
    assert "batched_lstm: RuntimeError: no such thing" in capsys.readouterr().err


def test_the_sub_command_leaves_results_in_the_folder_of_the_users_choice(tmp_path: Path) -> None:
    words = [
        "locality_attention",
        "--quick",
        "--select",
        "^forward float32.*Tq=6 ",
        "--providers",
        "eager",
    ]
    code = "import sys; from sgela_fast.cli.main import main; sys.exit(main())"
    out = tmp_path / "mine"
    done = subprocess.run(
        [sys.executable, "-c", code, "bench", *words, "--no_memory", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.json")
    content = json.loads(path.read_text())
    assert content["settings"]["command"].startswith("sgela-fast bench locality_attention --quick")
    assert "eager" in done.stdout
    assert "[locality_attention 1/1" in done.stderr


def test_an_installed_package_names_no_commit_of_a_repository_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "REPOSITORY", None)
    assert environment._commit() == {"commit": None, "dirty": None}


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from sgela_fast.cli.main import main; main(['bench', '--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
