"""Encoded gait states can be had wherever AGEs can, are those of the reference, and are never taken for AGEs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.export import METADATA, export
from sgela_fast.encoding.maintenance import merge
from sgela_fast.encoding.plan import plan_hash
from sgela_fast.encoding.source import Source
from sgela_fast.encoding.store import Store
from sgela_fast.encoding.stream import StreamEncoder
from sgela_fast.errors import ConfigError, DataError, OutputError
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.evaluate import evaluate
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.pipeline import PipelineConfig
from sgela_fast.reference.sgela import SGELA
from sgela_fast.search.index import Index
from sgela_fast.search.queries import Queries
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout

STATES = EncodingConfig(feature="states", part_mb=0.01, batch=16)
AGES = EncodingConfig(part_mb=0.01, batch=16)
NO_AGES = (
    "feature is ages but the model has attention none and so no AGEs; choose feature states, its encoded gait states"
)


def make_encoder(attention: str = "las", backend: Any = "auto", precision: Any = "fp32") -> Encoder:
    config = SGELAConfig(hidden=4, frames=3, attention=attention)  # type: ignore[arg-type]
    model = build_model(config, backend, precision, seed=3).eval()
    return Encoder(model, WindowConfig(frames=3, trim=2), get_layout("kinect-v1"), "0" * 64, "test")


def reference_states(encoder: Encoder, windows: np.ndarray) -> np.ndarray:
    """Top-layer states of the encoder in float64, axis by axis, from the whole model's pass."""
    model = SGELA(encoder.model.config).double()
    model.load_state_dict(encoder.model.state_dict())
    skeletons = torch.from_numpy(windows).double().movedim(-1, 0)
    with torch.no_grad():
        return np.concatenate([axis.numpy() for axis in model(skeletons).encoded], axis=-1)


@pytest.mark.parametrize("attention", ["las", "none"])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_store_of_states_holds_those_of_the_reference(
    make_archive: Callable[..., Archive], tmp_path: Path, attention: str, backend: str
) -> None:
    encoder, archive = make_encoder(attention, backend), make_archive()
    store = encode(archive, encoder, tmp_path / "store", STATES).store
    assert (store.feature, store.info["feature"], store.shape) == ("states", "states", (3, 12))
    windows = np.concatenate([encoder.cut(recording.joints)[0] for recording in archive])
    np.testing.assert_allclose(store.values(), reference_states(encoder, windows), rtol=0, atol=1e-6)
    pooled = encode(archive, encoder, tmp_path / "pooled", EncodingConfig(feature="states", pooling="mean")).store
    np.testing.assert_allclose(pooled.values(), store.values().mean(axis=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 5e-3), ("int8", 3e-2)])
def test_states_are_computed_at_the_models_precision(precision: str, bound: float) -> None:
    exact, encoder = make_encoder(), make_encoder(precision=precision)
    windows = np.random.default_rng(0).normal(size=(9, 3, 20, 3)).astype(np.float32)
    expected, found = (model.encode_windows(windows, feature="states") for model in (exact, encoder))
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < bound
    frozen = Encoder(encoder.model.freeze(), encoder.window, encoder.layout, "0" * 64, "test")
    assert np.array_equal(frozen.encode_windows(windows, feature="states"), found)


def test_recordings_windows_streams_and_files_give_the_same_states(tmp_path: Path) -> None:
    encoder = make_encoder("none")
    joints = np.random.default_rng(1).normal(size=(20, 20, 3)).astype(np.float32)
    ages, starts, _ = encoder.encode(joints, feature="states", details=True)
    raw = np.stack([joints[start : start + 3] for start in starts])
    assert np.array_equal(encoder.encode_windows(raw, feature="states"), ages)
    assert np.array_equal(encoder.warm(len(raw), feature="states")(raw), ages)
    stream = StreamEncoder(encoder, feature="states")
    windows = {window.start: window.ages for window in map(stream.push, joints) if window is not None}
    assert all(np.array_equal(windows[start], age) for start, age in zip(starts, ages, strict=True))
    path, files = export(encoder, tmp_path / "encoder.pt2", feature="states"), {METADATA: ""}
    with torch.no_grad():
        exported = torch.export.load(path, extra_files=files).module()(torch.from_numpy(raw))
    np.testing.assert_allclose(exported.numpy(), ages, rtol=0, atol=1e-6)
    assert json.loads(files[METADATA])["feature"] == "states"


def test_a_model_without_attention_has_no_ages(make_archive: Callable[..., Archive], tmp_path: Path) -> None:
    encoder, joints = make_encoder("none"), np.ones((20, 20, 3), np.float32)
    refused: list[Callable[[], object]] = [
        lambda: encode(make_archive(), encoder, tmp_path / "store"),
        lambda: encoder.encode(joints),
        lambda: encoder.encode_windows(joints[None, :3]),
        lambda: encoder.warm(),
        lambda: StreamEncoder(encoder),
        lambda: export(encoder, tmp_path / "encoder.pt2"),
    ]
    for call in refused:
        with pytest.raises(ConfigError) as caught:
            call()
        assert str(caught.value) == NO_AGES
    assert not (tmp_path / "store").exists()
    with pytest.raises(ConfigError, match="choose ages or states"):
        encoder.encode(joints, feature="both")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=r"model\.attention none has no AGEs"):
        PipelineConfig(model=SGELAConfig(attention="none"))


def as_before(path: Path) -> None:
    """Take out what earlier releases did not write."""
    content = json.loads(path.read_text())
    del content["feature"], content["trained_on"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("attention", "config"), [("las", AGES), ("none", STATES)])
def test_stores_of_earlier_releases_are_read_and_gone_on_with(
    make_archive: Callable[..., Archive], tmp_path: Path, attention: str, config: EncodingConfig
) -> None:
    encoder, archive, out = make_encoder(attention), make_archive(), tmp_path / "store"
    whole = encode(archive, encoder, out, config).store
    unsaid = (
        "schema",
        "schema_version",
        "made_by",
        "archive",
        "origin",
        "trained_on",
        "plan",
        "feature",
        "shards",
        "parts",
    )
    totals = ("windows", "recordings", "invalid_windows", "short_recordings", "quarantined")
    settings = {name: value for name, value in whole.info.items() if name not in (*unsaid, *totals)}
    window_bytes = 3 * 12 * 4
    size = int(0.01 * (1 << 20)) // window_bytes
    assert whole.info["plan"] == plan_hash(settings, Source(archive, encoder.window).counts, size)
    expected = whole.values()
    as_before(out / "store.json")
    assert Store(out).feature == config.feature
    (out / "part-00001.npy").unlink()
    assert np.array_equal(encode(archive, encoder, out, config, resume=True).store.values(), expected)
    other = EncodingConfig(feature="states", part_mb=0.01, batch=16, stride=2)
    with pytest.raises(OutputError, match=r"begun with window\.stride"):
        encode(archive, encoder, out, other, resume=True)


def test_an_unfinished_store_is_gone_on_with_as_what_it_is(
    make_archive: Callable[..., Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, archive, out = make_encoder(), make_archive(), tmp_path / "store"

    def full(*_: object) -> None:
        raise OutputError("full")

    with monkeypatch.context() as patched:
        patched.setattr("sgela_fast.encoding.manifest.write_quarantine", full)
        with pytest.raises(OutputError, match="full"):
            encode(archive, encoder, out, AGES)
    as_before(out / "unfinished.json")
    with pytest.raises(OutputError, match="was begun with feature = 'ages', not 'states'; resume with the same model"):
        encode(archive, encoder, out, STATES, resume=True)
    assert encode(archive, encoder, out, AGES, resume=True).store.feature == "ages"


def test_states_are_not_compared_with_ages(make_archive: Callable[..., Archive], tmp_path: Path) -> None:
    encoder, archive = make_encoder(), make_archive()
    ages = encode(archive, encoder, tmp_path / "ages", AGES).store
    states = encode(make_archive({"q_0": 40}, name="other.sga"), encoder, tmp_path / "states", STATES).store
    with pytest.raises(DataError, match=r"differ in feature \(ages and states\)"):
        merge([ages.path, states.path], tmp_path / "both")
    with pytest.raises(DataError, match=r"differ in feature \(ages and states\)"):
        evaluate([states.path], EvaluationConfig(protocol="G"), train=ages.path)
    with pytest.raises(
        DataError, match=r"was encoded as states but .* holds ages; encode it with --encoding.feature ages"
    ):
        Index.open(ages).search(Queries.of_recordings(states, "q_0"))
