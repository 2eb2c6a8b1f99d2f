"""The names that ``import sgela_fast`` offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sgela_fast

HEAVY = ("torch", "numpy", "pyarrow", "matplotlib", "sklearn", "tensorboard", "scipy", "jsonargparse")


def test_import_loads_no_heavy_library() -> None:
    code = f"import sys, sgela_fast; sys.exit(', '.join({{*{HEAVY!r}}} & sys.modules.keys()) or 0)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"importing sgela_fast also imported {found.stderr.strip()}"


@pytest.mark.parametrize("name", sgela_fast.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    found = getattr(sgela_fast, name)
    if name != "__version__":
        assert found.__name__ == name
        assert found.__doc__


def test_public_names_are_listed_once_in_order() -> None:
    lazy = [name for name in sgela_fast.__all__ if name != "__version__"]
    assert sorted(set(sgela_fast.__all__)) == sgela_fast.__all__
    assert sorted(sgela_fast._MODULES) == lazy
    assert set(sgela_fast.__all__) <= set(dir(sgela_fast))


def test_type_checkers_see_the_names_that_are_loaded_lazily() -> None:
    tree = ast.parse(Path(sgela_fast.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {name.name: node.module for node in imports for name in node.names}
    assert typed == {name: f"sgela_fast.{module}" for name, module in sgela_fast._MODULES.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sgela_fast.nothing  # noqa: B018


def test_the_module_docstring_fixes_every_symbol() -> None:
    assert sgela_fast.__doc__ is not None
    for symbol in "AGBTJKC":
        assert f"``{symbol}``" in sgela_fast.__doc__
