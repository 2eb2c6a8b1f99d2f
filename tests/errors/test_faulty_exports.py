"""Exports at fault.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

Complains = Callable[..., None]


def test_export_whose_format_nothing_tells(inputs: Any, complains: Complains) -> None:
    inputs.take("run")
    complains("export", "run", "--out", "encoder.bin")


def test_fused_ops_in_an_onnx_file(inputs: Any, complains: Complains) -> None:
    inputs.take("run")
    complains("export", "run", "--out", "encoder.onnx", "--backend", "fused")


def test_onnx_export_without_its_libraries(inputs: Any, complains: Complains, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs.take("run")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    complains("export", "run", "--out", "encoder.onnx")
