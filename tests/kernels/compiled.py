"""What Triton's compiler makes of an op's kernels, as the reports in ``benchmarks/`` print it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def rows_of(report: str, *arguments: str) -> list[dict[str, Any]]:
    """The rows of ``benchmarks/<report>.py``, run in a process of its own: in this one the interpreter may be at work.

    Args:
        report: name of the module.
        arguments: of its command line, beside ``--json``.
    """
    command = [sys.executable, "-m", f"benchmarks.{report}", *arguments, "--json"]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
