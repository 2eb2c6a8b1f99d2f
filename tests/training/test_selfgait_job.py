"""Training SelfGait: run folders, exact resume, fine-tuning, labels, endings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sgela_fast.checkpoints.run_folder import load_run, read_weights
from sgela_fast.checkpoints.selfgait_run import load_selfgait
from sgela_fast.errors import CheckpointError, ConfigError, DataError, DivergenceError, OutputError
from sgela_fast.models.selfgait import build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.training.selfgait.batches import Batches, training_rows
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig
from sgela_fast.training.selfgait.job import SelfGaitResult, fit_selfgait, train_selfgait
from sgela_fast.training.selfgait.step import SelfGaitStepper, build_selfgait_optimiser, directions, spread
from tests.silhouette_bars import bars

MODEL = {"channels": (2, 4, 4), "bins": (1, 2), "embedding": 6, "projector": 8}
CLIPS = ClipConfig(frames=5, crop=8, shrink=4)
TRAINING = {"persons": 3, "clips": 2, "max_steps": 6, "learning_rate": 0.01, "checkpoint_every": 2, "log_every": 2}
TRAINING |= {"threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def silhouettes() -> SilhouetteSet:
    return bars()


def train(silhouettes: SilhouetteSet, out: Path, variant: Any = "canonical", **settings: Any) -> SelfGaitResult:
    further = {name: settings.pop(name) for name in ("start", "resume") if name in settings}
    training = SelfGaitTrainingConfig(**{**TRAINING, **settings})
    model, clips = (None, None) if "start" in further else (SelfGaitConfig(variant=variant, **MODEL), CLIPS)
    return train_selfgait(silhouettes, out, model, clips, training, **further)


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def test_the_run_folder_says_whose_it_is_and_loads(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    result = train(silhouettes, tmp_path / "run")
    assert (result.state, result.step, result.stage) == ("finished", 6, "pretrain")
    run = load_selfgait(tmp_path / "run", "reference")
    assert not run.model.training
    assert run.clips == CLIPS
    assert (run.model_config.frames, run.model_config.height, run.model_config.width) == (5, 16, 12)
    assert run.info["system"] == "selfgait"
    with pytest.raises(CheckpointError, match="holds a model of system 'selfgait', which reads silhouettes"):
        load_run(tmp_path / "run")


def test_what_tells_a_collapse_is_logged(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    result = train(silhouettes, tmp_path / "run")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [entry["step"] for entry in history] == [1, 2, 4, 6]
    assert set(history[-1]) == {"step", "total", "spread", "directions", "target_spread", "gradient_norm", "seconds"}
    assert all(0 < entry["spread"] < 1.5 for entry in history)
    assert result.values["spread"] == history[-1]["spread"]


def test_spread_is_zero_for_one_direction_and_one_for_all_directions() -> None:
    one = torch.randn(4, 1, 16).expand(4, 50, 16) * torch.rand(4, 50, 1)
    assert spread(one) < 1e-3
    assert spread(torch.randn(4, 2000, 16)) == pytest.approx(1, abs=0.02)


def test_directions_are_counted_whatever_all_clips_share() -> None:
    line = torch.randn(4, 50, 1) * torch.randn(4, 1, 16)
    shared = 1000 * torch.randn(4, 1, 16, dtype=torch.float64)
    assert directions(line.double() + shared) == pytest.approx(1)
    everywhere = torch.randn(4, 5000, 16, dtype=torch.float64)
    assert directions(everywhere + shared) == pytest.approx(16, rel=0.02)
    assert directions(torch.ones(4, 50, 16)) == 0  # one and the same embedding


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_resumed_run_is_bit_equal_to_one_that_went_through(
    silhouettes: SilhouetteSet, tmp_path: Path, stage: str
) -> None:
    train(silhouettes, tmp_path / "whole", stage=stage)
    train(silhouettes, tmp_path / "parts", stage=stage, max_steps=3)
    train(silhouettes, tmp_path / "parts", stage=stage, resume=True)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    steps = [[entry["step"] for entry in read_history(tmp_path / name)] for name in ("whole", "parts")]
    assert steps[0] == steps[1]


def test_a_learning_rate_that_falls_does_so_across_a_stop(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    config = SelfGaitTrainingConfig(learning_rate=0.1, max_steps=6, decay_steps=8)
    assert [config.rate(step) for step in (0, 4)] == pytest.approx([0.1, 0.05])
    assert config.rate(8) == pytest.approx(0)
    assert SelfGaitTrainingConfig(learning_rate=0.1).rate(5000) == 0.1
    train(silhouettes, tmp_path / "whole", decay_steps=8)
    train(silhouettes, tmp_path / "parts", decay_steps=8, max_steps=3)
    train(silhouettes, tmp_path / "parts", decay_steps=8, resume=True)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    train(silhouettes, tmp_path / "constant")
    assert weights(tmp_path / "whole") != weights(tmp_path / "constant")
    with pytest.raises(ConfigError, match="raise decay_steps or lower max_steps"):
        SelfGaitTrainingConfig(max_steps=9, decay_steps=8)


def read_history(run: Path) -> list[dict[str, float]]:
    history: list[dict[str, float]] = json.loads((run / "history.json").read_text())
    return history


def test_a_budget_ends_a_run_that_can_be_gone_on_with(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    assert train(silhouettes, tmp_path / "run", budget_minutes=1e-9).step == 1
    result = train(silhouettes, tmp_path / "run", budget_minutes=0, resume=True)
    assert (result.state, result.step) == ("finished", 6)


def test_resuming_with_other_settings_is_refused(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    train(silhouettes, tmp_path / "run", max_steps=1)
    with pytest.raises(CheckpointError, match=r"selfgait_training\.seed = 0, not 1"):
        train(silhouettes, tmp_path / "run", seed=1, resume=True)
    with pytest.raises(CheckpointError, match="trained on another archive than bars"):
        train(bars(persons=5), tmp_path / "run", resume=True)
    with pytest.raises(OutputError, match="already holds a run"):
        train(silhouettes, tmp_path / "run")


def test_fine_tuning_starts_from_the_weights_and_trains_the_embedder_alone(
    silhouettes: SilhouetteSet, tmp_path: Path
) -> None:
    train(silhouettes, tmp_path / "pre")
    result = train(silhouettes, tmp_path / "fine", stage="finetune", start=tmp_path / "pre", labels=0.75, max_steps=3)
    assert set(result.values) == {"total", "active", "distance", "spread", "directions", "gradient_norm", "seconds"}
    before, after = (read_weights(tmp_path / name / "model.safetensors") for name in ("pre", "fine"))
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (not name.startswith("online.")), name
    info = load_selfgait(tmp_path / "fine", "reference").info
    assert info["started_from"]["model_hash"] == load_selfgait(tmp_path / "pre", "reference").model_hash


def test_a_first_fine_tuning_step_is_that_of_the_triplet_loss(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    """SGD's first step: minus the learning rate times the gradient plus the decay."""
    config = SelfGaitTrainingConfig(**{**TRAINING, "stage": "finetune", "weight_decay": 0.1})
    _, model_config = fit_selfgait(SelfGaitConfig(**MODEL), CLIPS)
    model = build_selfgait(model_config, "reference", seed=0)
    before = model.online.strip_weight.detach().clone()
    train(silhouettes, tmp_path / "run", stage="finetune", weight_decay=0.1, max_steps=1)
    batch = Batches(silhouettes, CLIPS, config, torch.device("cpu")).draw(0)
    stepper = SelfGaitStepper(model, build_selfgait_optimiser(model, config), config)
    stepper.backward(batch)
    gradient = model.online.strip_weight.grad
    assert gradient is not None
    after = read_weights(tmp_path / "run" / "model.safetensors")["online.strip_weight"]
    torch.testing.assert_close(after, before - 0.01 * (gradient + 0.1 * before))


def test_fine_tuning_can_begin_with_embeddings_of_a_size_that_suits_the_margin(
    silhouettes: SilhouetteSet, tmp_path: Path
) -> None:
    settings: Any = {"stage": "finetune", "max_steps": 1, "learning_rate": 1e-9}
    results = {
        distance: train(silhouettes, tmp_path / str(distance), start_distance=distance, **settings).values
        for distance in (0.0, 3.0)
    }
    assert results[3.0]["distance"] == pytest.approx(3)
    assert not 2 < results[0.0]["distance"] < 4
    assert results[3.0]["spread"] == pytest.approx(results[0.0]["spread"])  # directions are as they were
    for folder, steps in (("whole", (2,)), ("parts", (1, 2))):  # a resumed run is not scaled again
        for number, most in enumerate(steps):
            resumed: Any = {**settings, "max_steps": most, "resume": number > 0}
            train(silhouettes, tmp_path / folder, start_distance=3.0, **resumed)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")


def test_labels_hide_persons_or_sequences_from_fine_tuning_alone() -> None:
    table = bars(persons=10).sequences

    def chosen(**settings: Any) -> Any:
        return table[training_rows(table, SelfGaitTrainingConfig(**settings))]

    half = chosen(stage="finetune", labels=0.5)
    assert len(half.subjects) == 5
    assert set(chosen(stage="finetune", labels=0.2).subjects) < set(half.subjects)
    assert len(half) == 5 * 12
    spread_out = chosen(stage="finetune", labels=0.5, label_unit="sequences")
    assert (len(spread_out.subjects), len(spread_out)) == (10, 60)
    assert len(chosen(labels=0.5)) == len(table)
    assert chosen(subjects=4).subjects == ["001", "002", "003", "004"]


def test_one_person_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two labelled persons and there are 1"):
        train(bars(persons=1), tmp_path / "run", stage="finetune")
    with pytest.raises(DataError, match="a batch takes 3 subjects but there are 2"):
        train(bars(persons=2), tmp_path / "run", variant="released")
    with pytest.raises(DataError, match="a batch takes 60 sequences but there are 24"):
        train(bars(persons=2), tmp_path / "run", clips=20)


def test_pretraining_looks_at_labels_in_the_released_variant_alone(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    for variant, sampling in (("canonical", "sequences"), ("released", "persons")):
        train(silhouettes, tmp_path / variant, variant=variant, max_steps=1)
        assert load_selfgait(tmp_path / variant).info["training"]["sampling"] == sampling
    config = SelfGaitTrainingConfig(**{**TRAINING, "persons": 6, "clips": 4, "sampling": "sequences"})
    batches = Batches(silhouettes, CLIPS, config, torch.device("cpu"))
    counts = torch.stack([batches.draw(step).persons.bincount(minlength=4) for step in range(4)])
    assert counts.sum() == 4 * 24
    assert not torch.all(counts == 6)  # not the same number of everybody's


def test_short_sequences_are_left_out_and_said(tmp_path: Path) -> None:
    result = train(bars(frames=4, spread=3), tmp_path / "run", max_steps=1)
    assert result.notes == ["12 sequences have fewer than 5 frames and were left out"]


def test_divergence_keeps_the_last_good_weights(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"lower selfgait_training\.learning_rate"):
        train(silhouettes, tmp_path / "run", stage="finetune", learning_rate=1e20, max_steps=30)
    run = load_selfgait(tmp_path / "run", "reference")
    assert run.info["state"] == "diverged"
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


def test_the_released_variant_cuts_and_mirrors_as_its_code_does() -> None:
    clips, model = fit_selfgait(SelfGaitConfig(variant="released", **MODEL), CLIPS)
    assert (clips.redraw, clips.flip) == (False, "frame")
    assert (model.objective, model.cosine, model.buffers) == ("aliased", "strips", "own")
    clips, _ = fit_selfgait(SelfGaitConfig(**MODEL), CLIPS)
    assert (clips.redraw, clips.flip) == (True, "sequence")


def test_settings_that_contradict_each_other_are_refused(silhouettes: SilhouetteSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"predicts a clip's own last frame, but clips\.apart"):
        fit_selfgait(SelfGaitConfig(**MODEL), replace(CLIPS, apart=True))
    with pytest.raises(ConfigError, match=r"selfgait\.frames is 9 but clips have 5"):
        fit_selfgait(SelfGaitConfig(frames=9, **MODEL), CLIPS)
    train(silhouettes, tmp_path / "run", max_steps=1)
    with pytest.raises(ConfigError, match="selfgait settings are those of"):
        fit_selfgait(SelfGaitConfig(projector=9), None, load_selfgait(tmp_path / "run"))
    run = load_selfgait(tmp_path / "run")
    turned = replace(CLIPS, rotate=5.0)
    assert fit_selfgait(None, turned, run) == (turned, run.model_config)
    assert fit_selfgait(None, ClipConfig(), run)[0] == CLIPS
    with pytest.raises(ConfigError, match=r"give the same clips\.frames"):
        fit_selfgait(None, replace(CLIPS, frames=4), run)
    for settings, message in (
        ({"labels": 0.0}, "above 0 and at most 1"),
        ({"stage": "finetune", "clips": 1}, "make no triplet"),
        ({"margin": 0.0}, "above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            SelfGaitTrainingConfig(**settings)
