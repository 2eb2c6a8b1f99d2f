"""Progress where standard error is no terminal."""

from __future__ import annotations

import pytest

from sgela_fast.cli import progress as module
from sgela_fast.cli.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_few_seconds_and_one_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("Converting", 10, "recordings") as progress:
        for done in range(10):
            clock[0] += 2
            progress.advance(note=f"walk{done}")
    assert capsys.readouterr() == (
        "",
        "Converting: 3 of 10 recordings, 6 s, ETA 14 s (walk2)\n"
        "Converting: 6 of 10 recordings, 12 s, ETA 8 s (walk5)\n"
        "Converting: 9 of 10 recordings, 18 s, ETA 2 s (walk8)\n"
        "Converting: 10 of 10 recordings, 20 s (done)\n",
    )


def test_work_of_an_earlier_job_does_not_speed_up_the_eta(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("Training", None, "steps") as progress:
        clock[0] += 50  # loading, which is no step's time
        progress.plan(90, 100)
        clock[0] += 6
        progress.advance(2)
    assert "Training: 92 of 100 steps, 6 s, ETA 24 s\n" in capsys.readouterr().err


def test_an_error_ends_without_done(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Progress("Training", 5, "steps"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""
