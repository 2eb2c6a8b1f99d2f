"""The reference still computes what it computed when it was compared with the official implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgela_fast.models.config import Attention, Variant
from tests.golden.make_reference_golden import CASES, FOLDER, compute, fresh_model


@pytest.mark.parametrize(("variant", "attention"), CASES)
def test_outputs_losses_and_gradients_are_unchanged(variant: Variant, attention: Attention) -> None:
    with np.load(FOLDER / f"reference_{variant}_{attention}.npz", allow_pickle=False) as file:
        golden = {name: file[name] for name in file.files}
    model = fresh_model(variant, attention)
    model.load_state_dict({name[2:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("w.")})
    # The file's inputs are float32; in float64 only the rounding of the stored results is left.
    found = compute(model, torch.from_numpy(golden["skeletons"]).double())
    assert set(found) == {name for name in golden if name != "skeletons" and not name.startswith("w.")}
    for name, values in found.items():
        scale = max(1.0, float(np.abs(golden[name]).max()))
        assert np.abs(values - golden[name]).max() < 1e-6 * scale, name
