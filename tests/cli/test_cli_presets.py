"""A preset that is named on the command line reaches the settings that it fills in."""

from __future__ import annotations

import pytest

from sgela_fast.cli.evaluate import settings as evaluation_settings
from sgela_fast.cli.main import build_parser
from sgela_fast.cli.train import settings as training_settings


@pytest.mark.parametrize(
    ("arguments", "selection", "initial"),
    [
        ([], "validation", "scaled"),
        (["--recognition.preset", "official"], "best-on-test", "official"),
        (["--recognition.preset", "official", "--recognition.selection", "last"], "last", "official"),
    ],
    ids=["default", "official", "official-but-last"],
)
def test_recognition_preset_fills_in_what_is_not_given(arguments: list[str], selection: str, initial: str) -> None:
    parsed = build_parser("evaluate").parse_args(["evaluate", "walks.store", *arguments])
    recognition = evaluation_settings(parsed.evaluate).recognition
    assert (recognition.selection, recognition.initial) == (selection, initial)


@pytest.mark.parametrize(
    ("arguments", "score", "optimiser"),
    [
        ([], "general", "adam"),
        (["--preset", "paper"], "dot", "sgd"),
        (["--preset", "paper", "--training.optimiser", "adam"], "dot", "adam"),
        (["--model.variant", "paper"], "dot", "adam"),
    ],
    ids=["default", "paper", "paper-but-adam", "paper-model-only"],
)
def test_training_preset_fills_in_what_is_not_given(arguments: list[str], score: str, optimiser: str) -> None:
    parsed = build_parser("train").parse_args(["train", "walks.sga", "--out", "run", *arguments])
    model, _, training = training_settings(parsed.train)
    assert (model.score, training.optimiser) == (score, optimiser)
