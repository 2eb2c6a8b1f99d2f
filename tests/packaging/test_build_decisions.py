"""What the build decides, from nothing but the environment variables and what there is to build with."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SETUP = Path(__file__).resolve().parents[2] / "setup.py"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """setup.py as a module; setup() is not called."""
    spec = importlib.util.spec_from_file_location("sgela_fast_setup", SETUP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def found(build: ModuleType, **other: Any) -> Any:
    """A machine that has everything, but for ``other``."""
    everything: dict[str, Any] = {"torch": "2.12.1", "torch_cuda": "13.0", "tools": frozenset({"ninja", "pybind11"})}
    everything |= {"compiler": "c++", "compiler_exists": True, "nvcc": "13.0"}
    return build.Found(**(everything | other))


MISSING = {
    "torch": ({"torch": None, "torch_cuda": None}, "no torch at build time"),
    "old torch": ({"torch": "2.9.1+cu126"}, "torch 2.9.1+cu126 is older than 2.11"),
    "ninja": ({"tools": frozenset({"pybind11"})}, "no ninja at build time"),
    "pybind11": ({"tools": frozenset({"ninja"})}, "no pybind11 at build time"),
    "compiler": ({"compiler": "clang++-99", "compiler_exists": False}, "'clang++-99' is not there"),
}


def test_with_everything_there_it_builds_for_cpu_and_cuda(build: ModuleType) -> None:
    plan = build.plan_build({}, found(build))
    assert plan.extension
    assert plan.cuda == "13.0"


@pytest.mark.parametrize(("other", "reason"), MISSING.values(), ids=MISSING)
def test_what_is_missing_makes_pure_python_and_is_named(build: ModuleType, other: dict[str, Any], reason: str) -> None:
    plan = build.plan_build({}, found(build, **other))
    assert not plan.extension
    assert plan.cuda is None
    assert reason in plan.reason


@pytest.mark.parametrize("setting", ["SGELA_EXTENSION", "SGELA_CUDA"])
@pytest.mark.parametrize(("other", "reason"), MISSING.values(), ids=MISSING)
def test_required_extension_fails_with_one_sentence(
    build: ModuleType, other: dict[str, Any], reason: str, setting: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        build.plan_build({setting: "1"}, found(build, **other))
    assert reason in str(stopped.value.code)
    assert "\n" not in str(stopped.value.code)


def test_sgela_extension_0_is_pure_python_whatever_there_is(build: ModuleType) -> None:
    plan = build.plan_build({"SGELA_EXTENSION": "0"}, found(build))
    assert not plan.extension
    assert "SGELA_EXTENSION=0" in plan.reason


NO_CUDA = {
    "CPU torch": ({"torch_cuda": None}, "not a CUDA build"),
    "no nvcc": ({"nvcc": None}, "nvcc is neither"),
    "another release": ({"nvcc": "12.4"}, "nvcc 12.4 does not fit a torch for CUDA 13.0"),
}


@pytest.mark.parametrize(("other", "reason"), NO_CUDA.values(), ids=NO_CUDA)
def test_without_what_cuda_needs_it_builds_for_the_cpu(build: ModuleType, other: dict[str, Any], reason: str) -> None:
    plan = build.plan_build({}, found(build, **other))
    assert plan.extension
    assert plan.cuda is None
    assert reason in plan.cuda_reason
    with pytest.raises(SystemExit, match=reason):
        build.plan_build({"SGELA_CUDA": "1"}, found(build, **other))


def test_sgela_cuda_0_builds_for_the_cpu_alone(build: ModuleType) -> None:
    assert build.plan_build({"SGELA_CUDA": "0"}, found(build)).cuda is None


@pytest.mark.parametrize("setting", ["SGELA_EXTENSION", "SGELA_CUDA"])
def test_an_unknown_setting_is_named(build: ModuleType, setting: str) -> None:
    with pytest.raises(SystemExit, match=f"{setting}='yes' is unknown; give auto, 1 or 0"):
        build.plan_build({setting: "yes"}, found(build))


def test_build_is_never_decided_by_a_visible_gpu(tmp_path: Path) -> None:
    """A machine with nvcc and a CUDA torch, but no GPU: torch cannot even be imported, so nothing asks it for one."""
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("raise ImportError('nobody may ask torch what it sees')")
    (torch / "version.py").write_text("__version__ = '2.13.0'\ncuda = '13.0'\n")
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(f"#!/bin/sh\necho 'release 13.0, V13.0.88'\necho '#$ TOP={tmp_path}/bin/..' >&2\n")
    nvcc.chmod(0o755)
    code = (
        f"import importlib.util, json, os\nspec = importlib.util.spec_from_file_location('build', {str(SETUP)!r})\n"
        "build = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(build)\n"
        "plan = build.plan_build({}, build.look_around())\n"
        "print(json.dumps([plan.extension, plan.cuda, os.environ['CUDA_HOME']]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "CXX": sys.executable}
    environment |= {"PATH": f"{nvcc.parent}:{os.environ['PATH']}", "CUDA_HOME": "", "CUDA_PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, "13.0", str(tmp_path)]


@pytest.mark.parametrize(("chosen", "compiled_for"), [(None, "8.0;9.0+PTX"), ("9.0", "9.0")])
def test_gpus_to_compile_for_are_chosen_by_name(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, chosen: str | None, compiled_for: str
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", chosen or "")
    if chosen is None:
        monkeypatch.delenv("TORCH_CUDA_ARCH_LIST")
    monkeypatch.setenv("SGELA_EXTENSION", "1")
    monkeypatch.setattr(build, "look_around", lambda: found(build, torch_cuda=None))
    monkeypatch.chdir(SETUP.parent)
    build.build_arguments()
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == compiled_for


FILES = ("op.cpp", "deep/op_avx2.cpp", "deep/op_avx512.cpp", "op_cuda.cpp", "op.cu", "op_sm90a.cu", "op.h")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        path = tmp_path / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("sources")
def test_cuda_files_are_compiled_in_cuda_builds_alone(build: ModuleType) -> None:
    cpu = build.sources_of(build.plan_build({"SGELA_CUDA": "0"}, found(build)), "x86_64")
    cuda = build.sources_of(build.plan_build({}, found(build)), "x86_64")
    assert cpu[""] == ["csrc/op.cpp"]
    assert cpu["_sm90a.cu"] == []
    assert cuda[""] == ["csrc/op.cpp", "csrc/op.cu", "csrc/op_cuda.cpp"]
    assert cuda["_sm90a.cu"] == ["csrc/op_sm90a.cu"]


@pytest.mark.usefixtures("sources")
def test_files_of_an_instruction_set_are_compiled_apart_and_on_x86_alone(build: ModuleType) -> None:
    plan = build.plan_build({}, found(build))
    x86, arm = build.sources_of(plan, "x86_64"), build.sources_of(plan, "aarch64")
    assert (x86["_avx2.cpp"], x86["_avx512.cpp"]) == (["csrc/deep/op_avx2.cpp"], ["csrc/deep/op_avx512.cpp"])
    assert (arm["_avx2.cpp"], arm["_avx512.cpp"]) == ([], [])
    assert x86[""] == arm[""]


def test_the_first_error_is_found_among_what_compilers_print(build: ModuleType) -> None:
    printed = [
        "c++ -Werror=all -c errors.cpp -o errors.o",
        "FAILED: [code=1] errors.o",
        f"{Path.cwd()}/csrc/errors.cpp:3:1: error: 'x' was not declared\n",
        "csrc/other.cpp:1:1: error: second",
    ]
    assert build.first_error(printed, RuntimeError("first line\nsecond")) == (
        "csrc/errors.cpp:3:1: error: 'x' was not declared"
    )
    assert build.first_error([], RuntimeError("first line\nsecond")) == "first line"


def test_a_pure_python_build_leaves_no_extension_of_an_earlier_one(build: ModuleType, tmp_path: Path) -> None:
    stale = tmp_path / "_C.cpython-311-x86_64-linux-gnu.so"
    stale.touch()
    build.settle(tmp_path, build.plan_build({}, found(build)))
    assert stale.exists()
    build.settle(tmp_path, build.plan_build({"SGELA_EXTENSION": "0"}, found(build)))
    assert not stale.exists()
    report = json.loads((tmp_path / "_build_report.json").read_text())
    assert report["extension"] is False
    assert "SGELA_EXTENSION=0" in report["reason"]
