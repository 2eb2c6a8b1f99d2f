"""A warmed encoder gives what the encoder gives, for as many windows as room was made for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sgela_fast.encoding.encoder import Encoder
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    model = build_model(SGELAConfig(hidden=8), seed=3).eval()
    return Encoder(model, WindowConfig(), get_layout("kinect-v1"), "hash", "test")


def raw_windows(batch: int) -> np.ndarray:
    windows = np.random.default_rng(batch).normal(size=(batch, 6, 20, 3)).astype(np.float32) + np.float32(2)
    windows[:, 0, 3] = 0
    windows[:1, 1, 5, 2] = np.nan
    return windows


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_every_number_of_windows_gets_the_encoders_bits(encoder: Encoder, pooling: str) -> None:
    warm = encoder.warm(8, pooling=pooling)  # type: ignore[arg-type]
    for batch in (1, 8, 3, 0, 5, 1):
        windows = raw_windows(batch)
        expected = encoder.encode_windows(windows, pooling=pooling)  # type: ignore[arg-type]
        found = warm(windows)
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, expected)
        tensor = warm(torch.from_numpy(windows))
        assert isinstance(tensor, Tensor)
        assert np.array_equal(tensor.numpy(), expected)


def test_results_are_not_overwritten_by_the_next_call(encoder: Encoder) -> None:
    warm = encoder.warm(2)
    windows = raw_windows(2)
    first, first_tensor = warm(windows), warm(torch.from_numpy(windows))
    kept, kept_tensor = first.copy(), first_tensor.clone()
    warm(windows + 1)
    warm(torch.from_numpy(windows + 1))
    assert np.array_equal(first, kept)
    assert torch.equal(first_tensor, kept_tensor)


def test_frames_that_were_centred_before_say_on_what(encoder: Encoder) -> None:
    windows = raw_windows(2)
    windows -= windows[:, :, 1:2]
    found = encoder.warm(2, origin="spine")(windows)
    assert np.array_equal(found, encoder.encode_windows(windows, origin="spine"))


def test_what_does_not_fit_is_refused_with_a_mend(encoder: Encoder) -> None:
    warm = encoder.warm(2)
    with pytest.raises(DataError, match="there are 3 windows but room was made for 2; warm a larger batch"):
        warm(raw_windows(3))
    with pytest.raises(DataError, match=r"the windows have the shape \(1, 5, 20, 3\) but the model reads"):
        warm(raw_windows(1)[:, :5])
    with pytest.raises(DataError, match="the windows have the shape"):
        warm(raw_windows(1)[0])
    with pytest.raises(ConfigError, match="batch is 0"):
        encoder.warm(0)
    with pytest.raises(DataError, match="no joint 'tail'"):
        encoder.warm(origin="tail")


class Replayed:
    """Stands in for CUDA's graphs: a replay runs the call again and writes where the first one has written."""

    def __init__(self) -> None:
        self.captured = 0

    def why_not(self, tensor: Tensor) -> str | None:
        return None

    def capture(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.captured += 1
        results = call()

        def replay() -> None:
            for result, again in zip(results, call(), strict=True):
                result.copy_(again)

        return replay, results


def test_graphs_are_captured_while_warming_and_change_nothing(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = Replayed()
    monkeypatch.setattr("sgela_fast.ops.cuda_graphs.CudaGraphs", lambda: graphs)
    monkeypatch.setattr("sgela_fast.encoding.latency.uses_graphs", lambda device: True)
    warm = encoder.warm(5)
    assert graphs.captured == 4  # 1, 2, 4 and 8
    for batch in (1, 3, 5, 2):
        windows = raw_windows(batch)
        np.testing.assert_allclose(warm(windows), encoder.encode_windows(windows), atol=1e-7)
    assert graphs.captured == 4


@pytest.mark.gpu
def test_graphs_on_a_device_give_the_encoders_results() -> None:
    encoder = Encoder.untrained("official", get_layout("kinect-v1"), device="cuda")
    warm = encoder.warm(5)
    for batch in (1, 3, 5, 2):
        windows = raw_windows(batch)
        np.testing.assert_allclose(warm(windows), encoder.encode_windows(windows), atol=1e-5)
