"""Every row of the tables of faults in the documentation has a test of its name, and every such test a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "errors.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| (\d+) \| (.+) \|$", PAGE, re.M)


def name_of_test(fault: str) -> str:
    """The name of the test about a row."""
    return "test_" + re.sub(r"[^a-z0-9]+", "_", fault.lower()).strip("_")


def compared_with_a_row() -> list[str]:
    """Names of the tests that take the check of a documented fault."""
    files = sorted((REPOSITORY / "tests" / "errors").glob("test_*.py"))
    nodes = [node for file in files for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in nodes if "complains" in {argument.arg for argument in node.args.args}]


def test_every_row_is_tested_and_every_test_has_a_row() -> None:
    rows, tests = [name_of_test(fault) for fault, _, _ in ROWS], compared_with_a_row()
    assert len(set(rows)) == len(rows)
    assert len(set(tests)) == len(tests)
    assert set(rows) == set(tests)


def test_the_tables_are_whole() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    headings = lines.count("| fault | exit | message |")
    assert headings == len(re.findall(r"^## ", PAGE, re.M))
    assert len(lines) == headings + len(ROWS)
    assert len(ROWS) >= 40


def test_every_message_is_one_sentence_with_a_remedy_or_a_choice() -> None:
    for fault, status, message in ROWS:
        assert status in ("1", "2", "130"), fault
        assert "Traceback" not in message, fault
        assert re.search(r"[;:,] |must|one of|give", message), fault
