"""Wheels and installations, each built from a copy of the sources and installed into a new environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("benchmarks", "csrc", "kernels", "sgela_fast")
NEEDED = (*SOURCES, "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
BUILD = (sys.executable, "-m", "build", "--no-isolation")
SMOKE = """
import json, sys
import torch
import sgela_fast
from sgela_fast.environment import build_report
from sgela_fast.ops.locality_attention import locality_attention

query, key = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8)
context = locality_attention(query, key, sigma=1.5).context
expected = locality_attention(query, key, sigma=1.5, backend="reference").context
torch.testing.assert_close(context, expected, atol=1e-5, rtol=1e-5)
assert "triton" not in sys.modules
try:
    import sgela_fast._C as compiled
except ImportError:
    info = None
else:
    info = compiled.build_info() | {"file": compiled.__file__}
print(json.dumps({"package": sgela_fast.__file__, "info": info, "report": build_report()}))
"""


def run(command: list[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run with only these of the build's variables set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SGELA_", "CXX", "CC"))}
    settings = {**inherited, "MAX_JOBS": "2", **environment}
    return subprocess.run([str(part) for part in command], env=settings, capture_output=True, text=True, cwd="/")


def succeed(command: list[str | Path], **environment: str) -> str:
    done = run(command, **environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def copy_sources(folder: Path) -> Path:
    """The files that a package is made of, without what was built from them."""
    built = shutil.ignore_patterns("*.so", "__pycache__", "_build_report.json")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=built)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(source: Path, out: Path, *options: str, **environment: str) -> Path:
    """Build a wheel without the network and without isolation."""
    succeed([*BUILD, *options, "--outdir", out, source], **environment)
    return next(out.glob("*.whl"))


def new_environment(folder: Path) -> Path:
    """Python of a new environment that also sees what is installed beside these tests, editable installations aside."""
    venv.create(folder, symlinks=True)
    seen = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "torch_and_tools.pth").write_text("\n".join(seen) + "\n")
    return folder / "bin" / "python"


def install(python: Path, *what: str | Path, **environment: str) -> str:
    options = ["--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check"]
    return succeed([sys.executable, "-m", "pip", "--python", python, "install", *options, *what], **environment)


def smoke_test(python: Path) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(succeed([python, "-I", "-c", SMOKE]))
    assert str(printed["package"]).startswith(str(python.parents[1]))
    return printed


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a source distribution and the wheel with extension that was built from it."""
    if shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        pytest.skip("no C++ compiler on this machine")
    folder = tmp_path_factory.mktemp("compiled")
    build(copy_sources(tmp_path_factory.mktemp("sources")), folder, SGELA_EXTENSION="1")
    return folder


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built where there is no compiler."""
    source = copy_sources(tmp_path_factory.mktemp("sources"))
    return build(source, tmp_path_factory.mktemp("pure"), "--wheel", CXX="missing-c++")


def files_in(wheel: Path) -> list[str]:
    return ZipFile(wheel).namelist()


def test_wheel_holds_only_the_package(compiled: Path) -> None:
    names = files_in(next(compiled.glob("*.whl")))
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sgela_fast"}
    assert not [name for name in names if name.endswith((".cpp", ".h", ".cu", ".o"))]
    assert len([name for name in names if name.endswith(".so")]) == 1


def test_every_module_is_in_the_wheel_and_kernels_are_files(compiled: Path) -> None:
    wheel = next(compiled.glob("*.whl"))
    modules = {f"sgela_fast/{path.relative_to(ROOT / 'sgela_fast')}" for path in (ROOT / "sgela_fast").rglob("*.py")}
    kernels = {f"sgela_fast/kernels/{path.name}": path.read_bytes() for path in (ROOT / "kernels").glob("*.py")}
    assert modules | kernels.keys() <= set(files_in(wheel))
    with ZipFile(wheel) as archive:
        assert {name: archive.read(name) for name in kernels} == kernels


def test_benchmarks_are_in_the_wheel_without_results_notes_and_what_serves_development(compiled: Path) -> None:
    names = {name for name in files_in(next(compiled.glob("*.whl"))) if name.startswith("sgela_fast/benchmarks/")}
    assert {"sgela_fast/benchmarks/harness/runner.py", "sgela_fast/benchmarks/locality_attention.py"} <= names
    assert all(name.endswith(".py") for name in names)
    assert "sgela_fast/benchmarks/golden_report.py" not in names


def test_source_distribution_holds_the_compiled_code(compiled: Path) -> None:
    with tarfile.open(next(compiled.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kinds = (".cpp", ".h", ".cu", ".cuh")
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.suffix in kinds} <= names


def test_wheel_installs_and_passes_the_smoke_test_in_a_new_environment(compiled: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path)
    install(python, next(compiled.glob("*.whl")))
    printed = smoke_test(python)
    assert printed["report"]["extension"] is True
    assert printed["info"]["file"].startswith(str(tmp_path))
    assert "baseline" in printed["info"]["isas"]
    info = json.loads(succeed([python.with_name("sgela-fast"), "info", "--json"]))
    assert info["extension"] == "built"


def test_without_compiler_the_wheel_is_pure_python_and_says_why(pure: Path, tmp_path: Path) -> None:
    assert pure.name.endswith("-py3-none-any.whl")
    python = new_environment(tmp_path)
    install(python, pure)
    printed = smoke_test(python)
    assert printed["info"] is None
    assert "'missing-c++' is not there" in printed["report"]["reason"]
    assert "'missing-c++'" in succeed([python.with_name("sgela-fast"), "info"], COLUMNS="300")


def test_sgela_extension_0_is_pure_python(tmp_path: Path) -> None:
    wheel = build(copy_sources(tmp_path), tmp_path / "dist", "--wheel", SGELA_EXTENSION="0")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "SGELA_EXTENSION=0" in ZipFile(wheel).read("sgela_fast/_build_report.json").decode()


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Sources whose C++ code has an error."""
    source = copy_sources(tmp_path)
    shutil.rmtree(source / "csrc")
    (source / "csrc").mkdir()
    (source / "csrc" / "faulty.cpp").write_text("int answer() {\n  return missing_name;\n}\n")
    return source


def test_a_compile_error_makes_pure_python_and_its_first_line_is_recorded(faulty: Path, tmp_path: Path) -> None:
    printed = succeed([*BUILD, "--wheel", "--outdir", tmp_path / "dist", faulty])
    assert "WARNING: sgela_fast is built WITHOUT its compiled kernels: compiling failed: csrc/faulty.cpp:2" in printed
    wheel = next((tmp_path / "dist").glob("*.whl"))
    assert not [name for name in files_in(wheel) if name.endswith(".so")]
    assert not [name for name in files_in(wheel) if ".data/" in name]
    reason = json.loads(ZipFile(wheel).read("sgela_fast/_build_report.json"))["reason"]
    assert "csrc/faulty.cpp:2" in reason
    assert "missing_name" in reason


def test_required_extension_fails_with_one_sentence_on_a_compile_error(faulty: Path, tmp_path: Path) -> None:
    done = run([*BUILD, "--wheel", "--outdir", tmp_path / "dist", faulty], SGELA_EXTENSION="1")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("sgela_fast:")]
    assert len(said) == 1
    assert "the required extension cannot be built: compiling failed: csrc/faulty.cpp:2" in said[0]


def test_editable_installation_works_and_shadows_no_other_package_called_kernels(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = copy_sources(tmp_path / "source")
    python = new_environment(tmp_path / "environment")
    other = next((tmp_path / "environment").glob("lib/python*/site-packages")) / "kernels"
    other.mkdir()
    (other / "__init__.py").write_text("who = 'the other one'")
    install(python, "--no-build-isolation", "--editable", source, SGELA_EXTENSION="0")
    code = (
        "import importlib.util, kernels, sgela_fast.kernels; assert kernels.who == 'the other one'; "
        "print(importlib.util.find_spec('sgela_fast.kernels.locality_attention').origin)"
    )
    for start in (source, tmp_path):
        done = subprocess.run([python, "-c", code], cwd=start, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).resolve() == source / "kernels" / "locality_attention.py"
