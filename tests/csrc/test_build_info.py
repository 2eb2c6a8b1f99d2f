"""The compiled module's own report, and the choice of an instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch  # noqa: F401  (the extension is linked against it)

ISAS = ("baseline", "avx2", "avx512")


@pytest.fixture
def compiled() -> Iterator[Any]:
    module = pytest.importorskip("sgela_fast._C", reason="the extension was not built", exc_type=ImportError)
    before = module.isa()
    yield module
    module.force_isa(before)


def test_the_build_that_is_asked_for_is_under_test(compiled: Any) -> None:
    """Under `make sanitize` the tests must not find the ordinary build, nor the other way round."""
    assert compiled.build_info()["sanitized"] == (os.environ.get("SGELA_SANITIZE") == "1")


def test_usable_instruction_sets_are_in_order_and_start_with_the_baseline(compiled: Any) -> None:
    usable = compiled.build_info()["isas"]
    assert usable == list(ISAS[: len(usable)])
    assert "baseline" in usable


def test_every_usable_instruction_set_can_be_forced(compiled: Any) -> None:
    usable = compiled.build_info()["isas"]
    for isa in usable:
        compiled.force_isa(isa)
        assert compiled.isa() == isa
    compiled.force_isa("")
    assert compiled.isa() == usable[-1]


def test_one_that_does_not_run_here_is_refused_and_changes_nothing(compiled: Any) -> None:
    before = compiled.isa()
    for isa in [name for name in ISAS if name not in compiled.build_info()["isas"]]:
        with pytest.raises(ValueError, match=f"{isa} does not run on this processor"):
            compiled.force_isa(isa)
    with pytest.raises(ValueError, match="'sse9' is unknown; give baseline, avx2 or avx512"):
        compiled.force_isa("sse9")
    assert compiled.isa() == before


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [("baseline", "baseline"), ("", None), ("sse9", "ValueError: SGELA_FAST_ISA: instruction set 'sse9' is unknown")],
)
def test_the_environment_chooses(compiled: Any, wanted: str, answer: str | None) -> None:
    code = f"import torch, sys; sys.path[:0] = {sys.path!r}; import sgela_fast._C as c; print(c.isa())"
    environment = {**os.environ, "SGELA_FAST_ISA": wanted}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (answer or compiled.build_info()["isas"][-1]) in done.stdout + done.stderr
