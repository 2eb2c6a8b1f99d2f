"""Encoder and decoder on the fused ops compute the official implementation's tensors, and the reference's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sgela_fast.benchmarks import golden_comparison as golden
from sgela_fast.models.config import Attention, DecoderInput, Variant
from sgela_fast.ops.attention_decoder import attention_decoder
from sgela_fast.ops.batched_lstm import batched_lstm
from sgela_fast.reference.attention_decoder import DecoderWeights
from sgela_fast.reference.sgela import SGELA, SGELAOutput
from tests.golden.make_reference_golden import CASES, FOLDER, fresh_model
from tests.ops.decoder_cases import needs_kernels

pytestmark = needs_kernels


@torch.no_grad()
def run_fused(model: SGELA, skeletons: Tensor, decoder_input: DecoderInput) -> SGELAOutput:
    """The model's forward pass with its two loops on the fused ops."""
    config = model.config
    assert config.attention != "none"
    assert config.fusion is not None
    encoded, state = batched_lstm(skeletons, model.encoder.weights(), backend="fused")
    target = skeletons.flip(2) if config.reverse else skeletons
    decoded = attention_decoder(
        encoded,
        state,
        DecoderWeights(
            model.decoder.weights(), model.key_weight, model.fusion_weight, model.output_weight, model.output_bias
        ),
        steps=target.shape[2],
        teacher=target if decoder_input == "teacher" else None,
        feedback=decoder_input == "feedback",
        mode=config.attention,
        centers="reverse" if config.reverse else "identity",
        sigma=config.sigma,
        window=float(config.window),
        fusion=config.fusion,
        backend="fused",
    )
    return SGELAOutput(
        reconstruction=decoded.reconstruction,
        target=target,
        encoded=encoded,
        encoder_state=state,
        context=decoded.context,
        alignment=decoded.alignment,
        alignment_loss=decoded.loss,
        attentional=decoded.attentional,
        decoder_h=decoded.h,
        decoder_c=decoded.c,
    )


@pytest.mark.shared
@pytest.mark.parametrize("name", golden.FILES)
def test_computes_the_official_tensors(shared: Path, name: str) -> None:
    with np.load(shared / "golden" / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    model = golden._model(golden._weights(arrays), arrays["x"].shape[1], golden.FILES[name])
    x = torch.from_numpy(arrays["x"])[None]  # (1, B, T, J)
    trained, free = run_fused(model, x, "zeros"), run_fused(model, x, "feedback")
    deviations = list(golden._forward(name, arrays, trained, free, model.config.hidden))
    assert {"alignments_tbj", "train.out"} <= {it.quantity for it in deviations}
    assert name.startswith("cage") or "context" in {it.quantity for it in deviations}
    for it in deviations:
        assert it.value < it.bound, f"{it.quantity}: {it.value:.1e} beyond {it.bound:.0e}"


@pytest.mark.parametrize(("variant", "attention"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_computes_the_stored_tensors_of_the_reference(
    variant: Variant, attention: Attention, dtype: torch.dtype
) -> None:
    with np.load(FOLDER / f"reference_{variant}_{attention}.npz", allow_pickle=False) as file:
        stored = {name: torch.from_numpy(file[name]) for name in file.files}
    model = fresh_model(variant, attention).to(dtype)
    model.load_state_dict({name[2:]: tensor for name, tensor in stored.items() if name.startswith("w.")})
    skeletons, config = stored["skeletons"].to(dtype), model.config
    assert config.decoder_input is not None
    assert config.encoding_input is not None
    trained, encoding = (run_fused(model, skeletons, fed) for fed in (config.decoder_input, config.encoding_input))
    assert encoding.context is not None
    found = {
        "context": trained.context,
        "alignment": trained.alignment,
        "reconstruction": trained.reconstruction,
        "ages": encoding.context.movedim(0, 2).flatten(2),
    }
    for name, tensor in found.items():
        assert tensor is not None
        torch.testing.assert_close(tensor.float(), stored[name], rtol=0, atol=2e-6)
