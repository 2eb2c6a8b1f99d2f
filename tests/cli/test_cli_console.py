"""What is printed in tables stands there as it is."""

from __future__ import annotations

import pytest
from rich.table import Table

from sgela_fast import environment
from sgela_fast.cli.console import plain_console
from sgela_fast.cli.main import main


def test_brackets_and_colons_in_names_are_letters(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title="walks[1]", show_header=False)
    table.add_row("anna[bold]", ":walking:")
    plain_console().print(table)
    printed = capsys.readouterr().out
    assert "walks[1]" in printed
    assert "anna[bold]" in printed
    assert ":walking:" in printed


def test_info_names_the_extra_of_an_absent_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(environment.OPTIONAL, "absent_library", ("plots", "eval"))
    assert main(["info"]) == 0
    assert "plots; install sgela_fast[eval]" in capsys.readouterr().out
