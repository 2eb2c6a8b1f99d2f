"""The recognition network and its metrics against tensors and figures of the released code (TensorFlow 1.10)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sgela_fast.evaluation.metrics import cmc_curve, label_ranks, nauc_roc
from sgela_fast.evaluation.recognition_training import build_optimiser, training_step
from sgela_fast.evaluation.released_batches import counted_windows
from sgela_fast.models.recognition import RecognitionNetwork, recognition_from_tf

pytestmark = pytest.mark.shared
FRAMES = {"ap": 6, "sc": 1}


@pytest.fixture(params=["ap", "sc"])
def golden(request: pytest.FixtureRequest, shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / f"rn_k32_{request.param}.npz", allow_pickle=False) as file:
        return {**{name: file[name] for name in file.files}, "frames": np.array(FRAMES[request.param])}


def network_of(golden: dict[str, np.ndarray], prefix: str) -> RecognitionNetwork:
    return recognition_from_tf({name: golden[prefix + name] for name in ("W1", "b1", "W2", "b2")})


def test_logits_match(golden: dict[str, np.ndarray]) -> None:
    network = network_of(golden, "w.")
    logits = network(torch.from_numpy(golden["val_X"])).detach().numpy()
    largest = np.abs(golden["val_logits"]).max()
    assert np.abs(logits - golden["val_logits"]).max() < 2e-6 * largest


def test_printed_figures_match(golden: dict[str, np.ndarray]) -> None:
    frames = int(golden["frames"])
    rows = torch.from_numpy(golden["val_X"])
    windows = rows.view(-1, frames, rows.shape[1])
    keep = counted_windows(len(windows), frames)
    scores = network_of(golden, "w.").window_logits(windows[:keep]).numpy()
    labels = golden["val_label"].reshape(-1, frames)[:keep, 0]
    rank1 = cmc_curve(label_ranks(scores, labels), scores.shape[1])[0]
    assert rank1 == pytest.approx(float(golden["official.rank1"]), abs=5.1e-7)  # printed with six decimals
    assert nauc_roc(scores, labels) == pytest.approx(float(golden["official.nauc"]), abs=1e-7)


def test_three_training_steps_match(golden: dict[str, np.ndarray]) -> None:
    network = network_of(golden, "w.")
    optimiser = build_optimiser(network, 0.0005)
    for step in range(3):
        rows, labels = torch.from_numpy(golden[f"step{step}.X"]), torch.from_numpy(golden[f"step{step}.label"])
        with torch.no_grad():
            accuracy = (network(rows).argmax(dim=1) == labels).float().mean()
        loss = training_step(network, optimiser, rows, labels)
        assert loss.item() == pytest.approx(golden["step.loss_acc"][step, 0], rel=2e-5)
        assert accuracy.item() == pytest.approx(golden["step.loss_acc"][step, 1], abs=1e-6)
        if step in (0, 2):
            after = network_of(golden, f"after{step + 1}.")
            for name, parameter in network.named_parameters():
                difference = (parameter - after.get_parameter(name)).detach().abs().flatten()
                # A few entries with almost no gradient follow its sign, which rounding decides.
                assert torch.quantile(difference, 0.999) < 2e-6, name
                assert difference.max() < 1e-3, name
