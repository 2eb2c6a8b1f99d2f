"""Write ``data/reference_*.npz``: small tensors of our own reference, for machines without the official ones.

    python tests/golden/make_reference_golden.py

The reference was compared with the official implementation's tensors before these files were made
(``python -m benchmarks.golden_report FOLDER``); they hold what it computed then, in float64, rounded to float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sgela_fast.models.config import Attention, SGELAConfig, Variant
from sgela_fast.models.sgela import build_model
from sgela_fast.reference.sgela import SGELA

FOLDER = Path(__file__).parent / "data"
CASES: tuple[tuple[Variant, Attention], ...] = (
    ("official", "las"),
    ("official", "bas"),
    ("paper", "las"),
    ("paper", "mbas"),
)


def fresh_model(variant: Variant, attention: Attention) -> SGELA:
    """A small model in float64 whose weights stand in the file, not in the initialisation."""
    config = SGELAConfig(variant=variant, attention=attention, joints=5, hidden=6)
    return build_model(config, dtype=torch.float64)


def compute(model: SGELA, skeletons: torch.Tensor) -> dict[str, np.ndarray]:
    """Everything that is compared: outputs, losses and gradients."""
    output = model(skeletons)
    losses = model.loss(output)
    model.zero_grad()
    losses.total.backward()
    assert output.context is not None
    assert output.alignment is not None
    tensors = {
        "encoded": output.encoded,
        "alignment": output.alignment,
        "context": output.context,
        "reconstruction": output.reconstruction,
        "ages": model.ages(skeletons.movedim(0, -1)),
        "loss": torch.stack([losses.total, losses.reconstruction, losses.attention]),
    }
    found = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    gradients = {
        f"grad.{name}": value.grad.numpy() for name, value in model.named_parameters() if value.grad is not None
    }
    return {**found, **gradients}


def main() -> None:
    """Write one file a case."""
    for variant, attention in CASES:
        generator = torch.Generator().manual_seed(7)
        model = fresh_model(variant, attention)
        for parameter in model.parameters():
            values = torch.empty(parameter.shape).uniform_(-0.6, 0.6, generator=generator)
            parameter.data.copy_(values)
        skeletons = torch.randn(3, 2, 6, 5, generator=generator).double()
        weights = {f"w.{name}": value.detach().numpy() for name, value in model.named_parameters()}
        arrays = {"skeletons": skeletons.numpy(), **weights, **compute(model, skeletons)}
        np.savez(
            FOLDER / f"reference_{variant}_{attention}.npz",
            **{name: value.astype(np.float32) for name, value in arrays.items()},  # type: ignore[arg-type]
        )


if __name__ == "__main__":
    main()
