"""The official variant against tensors that the official implementation computed (TensorFlow 1.10, float32)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sgela_fast.benchmarks.golden_comparison import FILES, ROLES, compare
from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.checkpoints.tf_bundle import TFBundle
from sgela_fast.checkpoints.tf_import import import_checkpoint
from sgela_fast.models.tf_names import wanted_names
from sgela_fast.skeletons.config import WindowConfig

pytestmark = pytest.mark.shared

# So that a renamed key cannot silently drop a comparison.
QUANTITIES = {
    "sgela_k16_f4_LA_forward": 27,
    "sgela_k16_BA_full": 65,
    "sgela_k32_LA_full": 66,
    "sgela_k64_LA_forward": 27,
    "sgela_k256_LA_recipe": 63,
    "cage_k16_contrastive_full": 6,
}


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_agrees(shared: Path, name: str) -> None:
    deviations = list(compare(shared / "golden", name))
    assert len(deviations) == QUANTITIES[name]
    beyond = [f"{d.quantity}: {d.value:.2e} > {d.bound:.0e}" for d in deviations if not d.value < d.bound]
    assert not beyond, "; ".join(beyond)


@pytest.fixture
def imported(shared: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    import_checkpoint(shared / "golden" / "tf_checkpoint_k16", out, window=WindowConfig(frames=4, center="none"))
    return out


def test_an_imported_checkpoint_computes_the_golden_tensors(shared: Path, imported: Path) -> None:
    model = load_run(imported).model
    with np.load(shared / "golden" / "sgela_k16_f4_LA_forward.npz", allow_pickle=False) as golden:
        with torch.no_grad():
            output = model(torch.from_numpy(golden["x"])[None])
        assert output.context is not None
        assert np.abs(output.context[0].numpy() - golden["context"]).max() < 1e-6
        assert np.abs(output.reconstruction[0].numpy() - golden["train.out"]).max() < 1e-6


def test_a_bundle_holds_the_golden_weights_bit_for_bit(shared: Path) -> None:
    bundle = TFBundle(shared / "golden" / "tf_checkpoint_k16")
    with np.load(shared / "golden" / "sgela_k16_f4_LA_forward.npz", allow_pickle=False) as golden:
        for role, name in zip(ROLES, wanted_names(2), strict=True):
            assert np.array_equal(bundle.tensor(name), golden[f"w.{role}"]), role


@pytest.mark.parametrize(
    ("folder", "persons", "sums"),
    [
        ("BIWI", 28, {"W1": 122.64515, "b1": 2.11429, "W": -498.23346, "Variable": 0.28404}),
        ("IAS", 11, {"W1": -171.29325, "b1": -2.04574, "W": -300.94659, "Variable": -0.04477}),
    ],
)
def test_the_published_recognition_networks_are_read(
    shared: Path, tmp_path: Path, folder: str, persons: int, sums: dict[str, float]
) -> None:
    source = shared / "golden" / "recognition_networks" / folder
    bundle = TFBundle(source)
    for name, total in sums.items():
        assert bundle.tensor(name).sum(dtype=np.float64) == pytest.approx(total, abs=1e-5)
    assert import_checkpoint(source, tmp_path / "out").sizes == {"width": 768, "hidden": 256, "persons": persons}
