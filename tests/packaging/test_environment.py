"""What ``sgela-fast info`` says of the compiled extension, of the ops and of Triton, also where they are missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from sgela_fast import environment
from sgela_fast.ops import _library, locality_attention

BUILT = {"compiler": "GCC 99.1", "torch": "2.12.0", "cuda": None, "sanitized": False, "isas": ["baseline", "avx2"]}


def pretend_built(monkeypatch: pytest.MonkeyPatch, isa: str | None = "avx2", **other: object) -> None:
    """Put an extension in place that was built as ``BUILT`` says, but for ``other``."""

    def used() -> str:
        if isa is None:
            raise ValueError("SGELA_FAST_ISA: instruction set 'x' is unknown")
        return isa

    module = ModuleType("sgela_fast._C")
    module.build_info = lambda: BUILT | other  # type: ignore[attr-defined]
    module.isa = used  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sgela_fast._C", module)
    monkeypatch.setattr(_library, "WHY_NO_EXTENSION", None)


def pretend_missing(monkeypatch: pytest.MonkeyPatch, report: Path, found: bool = False) -> None:
    monkeypatch.setattr(_library, "WHY_NO_EXTENSION", "undefined symbol: aoti_torch_something")
    monkeypatch.setattr(environment, "REPORT", report)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace() if found else None)


def test_a_built_extension_says_how_and_which_instruction_set_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_built(monkeypatch)
    built, used = environment.extension()
    assert (built.name, built.value) == ("extension", "built")
    assert "GCC 99.1, torch 2.12.0, no CUDA" in built.remark
    assert (used.value, used.remark[:18]) == ("avx2", "of baseline, avx2;")


def test_cuda_and_sanitizers_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_built(monkeypatch, cuda="13.0", sanitized=True)
    remark = environment.extension()[0].remark
    assert "CUDA 13.0" in remark
    assert "sanitizers" in remark


def test_a_wrong_choice_of_instruction_set_is_said_and_does_not_end_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_built(monkeypatch, isa=None)
    used = environment.extension()[1]
    assert used.value == "none"
    assert used.remark == "SGELA_FAST_ISA: instruction set 'x' is unknown"


def test_a_missing_extension_gives_the_builds_own_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"extension": False, "reason": "the C++ compiler 'c++' is not there"}))
    pretend_missing(monkeypatch, report)
    assert environment.extension() == [("extension", "absent", "the C++ compiler 'c++' is not there")]


@pytest.mark.parametrize("content", [None, "", "[]", "{", "{}"])
def test_without_a_readable_report_the_extension_was_never_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    report = tmp_path / "report.json"
    if content is not None:
        report.write_text(content)
    pretend_missing(monkeypatch, report)
    (entry,) = environment.extension()
    assert entry.value == "absent"
    assert "never built" in entry.remark


def test_an_extension_for_another_python_is_not_called_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"extension": True, "reason": "built with torch 2.13.0"}))
    pretend_missing(monkeypatch, report)
    (entry,) = environment.extension()
    assert entry.value == "absent"
    assert "another Python" in entry.remark


def test_an_extension_that_cannot_be_loaded_gives_the_loaders_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_missing(monkeypatch, tmp_path / "none.json", found=True)
    (entry,) = environment.extension()
    assert entry.value == "broken"
    assert "undefined symbol: aoti_torch_something" in entry.remark


def test_every_public_op_is_listed_with_what_runs_and_why() -> None:
    entries = {entry.name: entry for entry in environment.fused_ops()}
    entry = entries["locality_attention"]
    for device in ("cpu", "cuda"):
        why = locality_attention.why_not_fused(device, torch.float32)
        assert (why is None) or f"{device} reference" in entry.value
        assert (why is None) or why in entry.remark
    assert not [name for name in entries if name.startswith("_")]


def test_an_op_is_fused_unless_it_says_why_not() -> None:
    op = SimpleNamespace(why_not_fused=lambda device, dtype: None)
    assert environment._describe_op("op", op) == ("op", "cpu fused, cuda fused", "")
    unproven = SimpleNamespace(why_not_fused=lambda device, dtype: None, _PROVEN=("cpu",))
    value, remark = environment._describe_op("op", unproven)[1:]
    assert value == "cpu fused, cuda reference"
    assert "backend='fused'" in remark


def test_an_absent_library_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    entry = environment._optional("triton", *environment.OPTIONAL["triton"])
    assert entry == ("triton", "absent", "kernels on CUDA devices; install sgela_fast[triton]")


def test_a_library_of_another_distribution_is_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace())
    monkeypatch.setitem(environment.DISTRIBUTIONS, "faiss", "faiss-of-somebody-else")
    assert environment._optional("faiss", *environment.OPTIONAL["faiss"])[1] == "there"


def test_every_extra_for_users_is_reported_and_documented() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = re.findall(r"^\| (`[^|]+) \|", (root / "docs" / "installation.md").read_text(), re.MULTILINE)
    documented = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert extras.keys() <= documented
    developers = {"all", "bench", "build", "test", "lint", "docs", "dev"}
    assert {extra for _, extra in environment.OPTIONAL.values()} == extras.keys() - developers


def test_the_report_does_not_import_triton() -> None:
    code = "import sys; from sgela_fast.environment import describe; describe(); assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
