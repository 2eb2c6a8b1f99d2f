"""Mean attention is the mean of the model's own alignments, window by window, however it is batched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sgela_fast.encoding.attention import mean_attention
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout

LENGTHS = (40, 3, 9, 23, 0, 60)


def make_encoder(precision: Any = "fp32", **settings: Any) -> Encoder:
    model = build_model(SGELAConfig(hidden=8, frames=4, **settings), "auto", precision, seed=3).eval()
    for parameter in model.parameters():
        parameter.data.mul_(12)  # away from an even alignment
    return Encoder(model.freeze(), WindowConfig(frames=4, trim=2, stride=3), get_layout("kinect-v1"), "hash", "test")


@pytest.fixture(scope="module")
def recordings() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    walks = [random.normal(size=(frames, 20, 3)).astype(np.float32) for frames in LENGTHS]
    walks[0][12, 5] = np.nan
    return walks


@pytest.mark.parametrize("attention", ["las", "bas", "mbas"])
@pytest.mark.parametrize("variant", ["official", "paper"])
def test_it_is_the_mean_over_whole_windows(recordings: list[np.ndarray], variant: str, attention: str) -> None:
    encoder = make_encoder(variant=variant, attention=attention)
    cut = [encoder.cut(joints) for joints in recordings]
    windows = np.concatenate([windows[valid] for windows, _, valid in cut])
    with torch.no_grad():
        output = encoder.model(torch.from_numpy(windows).movedim(-1, 0), encoder.model.config.encoding_input)
    expected = output.alignment.double().mean(dim=1).numpy()
    for batch in (1, 5, 1000):
        found = mean_attention(encoder, recordings, batch=batch)
        assert found.windows == len(windows)
        np.testing.assert_allclose(found.matrices, expected, rtol=0, atol=5e-6)
    assert found.matrices.shape == (3, 4, 4)
    assert np.ptp(expected, axis=-1).max() > 0.02, "too even to tell anything"
    if attention == "mbas":
        assert found.matrices.sum(axis=-1).max() < 1
    else:
        np.testing.assert_allclose(found.matrices.sum(axis=-1), 1, atol=1e-6)


def test_windows_with_a_lost_joint_count_if_asked_for(recordings: list[np.ndarray]) -> None:
    encoder = make_encoder()
    every = sum(len(encoder.cut(joints)[1]) for joints in recordings)
    kept, whole = (mean_attention(encoder, recordings, keep_invalid=keep) for keep in (True, False))
    assert kept.windows == every
    assert whole.windows < every
    assert not np.array_equal(kept.matrices, whole.matrices)


def test_what_has_no_attention_is_refused(recordings: list[np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="the model has attention none; give one trained with las, bas or mbas"):
        mean_attention(make_encoder(attention="none"), recordings)
    with pytest.raises(ConfigError, match="int8 is for encoding alone"):
        mean_attention(make_encoder("int8"), recordings)
    with pytest.raises(DataError, match="no whole window to average attention over"):
        mean_attention(make_encoder(), recordings[1:2])
