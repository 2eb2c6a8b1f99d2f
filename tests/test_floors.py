"""Each floor of the house imports only floors below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sgela_fast

ROOT = Path(sgela_fast.__file__).parent
GROUND = ("errors", "atomic", "locking", "stopping", "_version")
# What each package may import of this one, besides itself.
ALLOWED: dict[str, tuple[str, ...]] = {
    "reference": (),
    "skeletons": GROUND,
    "silhouettes": (*GROUND, "skeletons"),
    "kernels": (),
    "ops": ("kernels", "reference", "errors"),
    "nn": ("ops", "reference", "errors"),
    "models": ("ops", "reference", "errors"),
    "checkpoints": (*GROUND, "models", "reference", "silhouettes.config", "skeletons.config", "skeletons.layouts"),
    "training": (*GROUND, "checkpoints", "models", "reference", "silhouettes", "skeletons"),
    "encoding": (*GROUND, "checkpoints", "models", "ops.cuda_graphs", "reference", "silhouettes", "skeletons"),
    "evaluation": (
        *GROUND,
        "checkpoints.run_folder",
        "encoding.store",
        "models",
        "reference",
        "skeletons.archive",
        "skeletons.recording",
    ),
    "baselines": (*GROUND, "evaluation", "models", "nn", "skeletons"),
    # Measures whatever there is, as a user would call it, and is asked for by the command line alone.
    "benchmarks": (
        *GROUND,
        "checkpoints",
        "encoding",
        "evaluation",
        "kernels",
        "models",
        "ops",
        "reference",
        "search",
        "silhouettes",
        "skeletons",
        "training",
    ),
    "reproduction": (
        *GROUND,
        "baselines",
        "checkpoints",
        "encoding",
        "environment",
        "evaluation",
        "models",
        "skeletons",
        "training",
    ),
    "search": (*GROUND, "encoding.store", "models.checks"),
    "report": (
        *GROUND,
        "checkpoints.history",
        "encoding.attention",
        "encoding.encoder",
        "encoding.store",
        "evaluation.config",
        "evaluation.cross_view_results",
        "evaluation.metrics",
        "reproduction.claims",
        "reproduction.published",
        "reproduction.results",
        "reproduction.rows",
        "search",
        "skeletons.archive",
        "skeletons.inspection",
        "skeletons.layouts",
        "skeletons.quality",
        "skeletons.windows",
    ),
    "errors": (),
    "_version": (),
    "atomic": ("errors",),
    "locking": ("atomic", "errors"),
    "stopping": (),
}
HEAVY = ("torch", "numpy", "pyarrow", "safetensors", "matplotlib", "sklearn", "tensorboard", "scipy", "faiss")
SETTINGS = sorted(path for path in ROOT.rglob("config.py"))
COMMAND_LINE = sorted((ROOT / "cli").glob("*.py"))


def modules(floor: str) -> list[Path]:
    single = ROOT / f"{floor}.py"
    return [single] if single.exists() else sorted((ROOT / floor).rglob("*.py"))


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from runtime_nodes(child)


def names_in(nodes: Iterator[ast.AST] | list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            # `from sgela_fast import x` imports the module x.
            yield from (
                (f"{node.module}.{alias.name}" for alias in node.names)
                if node.module == "sgela_fast"
                else (str(node.module),)
            )


def imports(path: Path) -> set[str]:
    """Every module that ``path`` imports, also inside functions."""
    return set(names_in(runtime_nodes(ast.parse(path.read_text()))))


def own_imports(path: Path) -> set[str]:
    """Parts of this package that ``path`` imports."""
    return {name.removeprefix("sgela_fast.") for name in imports(path) if name.split(".")[0] == "sgela_fast"}


def within(name: str, floors: tuple[str, ...]) -> bool:
    return any(name == floor or name.startswith(f"{floor}.") for floor in floors)


@pytest.mark.parametrize("floor", ALLOWED)
def test_floor_imports_only_what_lies_below(floor: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(floor)
        for name in own_imports(path)
        if not within(name, (floor, *ALLOWED[floor]))
    }
    assert not wrong


def test_nothing_imports_the_command_line() -> None:
    inside = (ROOT / "cli", ROOT / "__main__.py")
    outside = [path for path in ROOT.rglob("*.py") if not any(map(path.is_relative_to, inside))]
    assert not [path for path in outside if any(within(name, ("cli",)) for name in own_imports(path))]


def test_the_reference_needs_torch_alone() -> None:
    standard = {"__future__", "collections", "collections.abc", "typing", "math"}
    for path in modules("reference"):
        foreign = {name for name in imports(path) if not name.startswith("sgela_fast.reference")} - standard
        assert foreign <= {"torch"}, path


@pytest.mark.parametrize("path", [*SETTINGS, *COMMAND_LINE], ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_and_commands_import_nothing_heavy_at_the_top(path: Path) -> None:
    top = names_in(list(ast.parse(path.read_text()).body))
    assert not {name for name in top if name.split(".")[0] in HEAVY}


def test_the_scan_sees_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import sgela_fast.cli.main\n"
        "from sgela_fast import atomic\n"
        "def late():\n    from sgela_fast.models.config import SGELAConfig\n"
        "if TYPE_CHECKING:\n    from sgela_fast.training import trainer\n"
    )
    assert own_imports(file) == {"cli.main", "atomic", "models.config"}
